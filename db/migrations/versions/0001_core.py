"""The storage contract."""

from db.migrations import run_sql

revision = "0001"
down_revision = None
suits_older_code = False


def upgrade() -> None:
    run_sql(__file__)
