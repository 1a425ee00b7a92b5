"""The schema: tables, what the database itself refuses, indexes, functions and the first rows."""

from db.migrations import run_sql

revision = "0001"
down_revision = None
supports_older_code = False


def upgrade() -> None:
    run_sql(__file__)
