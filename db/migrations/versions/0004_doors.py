"""Plans that wait for a person, lists of addresses, and what other services need at the door."""

from db.migrations import run_sql

revision = "0004"
down_revision = "0003"
suits_older_code = False


def upgrade() -> None:
    run_sql(__file__)
