"""What it takes to prove what happened: a job's states with their times, and sums of its chunks."""

from db.migrations import run_sql

revision = "0002"
down_revision = "0001"
suits_older_code = False


def upgrade() -> None:
    run_sql(__file__)
