"""What an opt-out needs that one statement stores, applied and completed."""

from db.migrations import run_sql

revision = "0005"
down_revision = "0004"
suits_older_code = False


def upgrade() -> None:
    run_sql(__file__)
