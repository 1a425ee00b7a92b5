"""${message}"""

from db.migrations import run_sql

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
# Whether processes of the version before may go on while the database is at this revision.
suits_older_code = False


def upgrade() -> None:
    run_sql(__file__)
