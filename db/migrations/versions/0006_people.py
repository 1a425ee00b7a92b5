"""An import recognises people, and reads the statuses that its file states."""

from db.migrations import run_sql

revision = "0006"
down_revision = "0005"
suits_older_code = False


def upgrade() -> None:
    run_sql(__file__)
