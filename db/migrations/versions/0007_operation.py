"""What operators need: who did what, what a worker had in hand, and keys that end."""

from db.migrations import run_sql

revision = "0007"
down_revision = "0006"
suits_older_code = True


def upgrade() -> None:
    run_sql(__file__)
