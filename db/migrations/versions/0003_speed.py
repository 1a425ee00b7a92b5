"""Storage that costs bulk work less: ids that are not compressed, references checked in sets."""

from db.migrations import run_sql

revision = "0003"
down_revision = "0002"
suits_older_code = False


def upgrade() -> None:
    run_sql(__file__)
