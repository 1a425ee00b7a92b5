"""Migrations, in order: each is plain SQL next to a revision file that names it."""

from pathlib import Path

from alembic import op


def run_sql(revision_file: str) -> None:
    """Run the `.sql` file of the same name as the revision file, in the migration's transaction."""
    script = Path(revision_file).with_suffix(".sql").read_text(encoding="utf-8")
    bind = op.get_bind()
    # asyncpg prepares what SQLAlchemy sends, and only single statements can be prepared; the
    # empty statement makes sure that the transaction has begun.
    bind.exec_driver_sql("select 1")
    connection = bind.connection.dbapi_connection
    assert connection is not None
    connection.run_async(lambda driver: driver.execute(script))
