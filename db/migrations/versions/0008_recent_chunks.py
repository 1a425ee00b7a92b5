"""An index of the chunks that were done last, by itself: it takes long where chunks are many."""

from db.migrations import run_sql

revision = "0008"
down_revision = "0007"
suits_older_code = True


def upgrade() -> None:
    run_sql(__file__)
