"""`sluice migrate`: bring the database to this version."""

import asyncio

from db.migrate import migrate as migrate_database
from producers.cli.context import surroundings
from producers.cli.rendering import say


def migrate() -> None:
    """Bring the database to this version of Sluice. Doing it again changes nothing."""
    with surroundings() as settings:
        assert settings.database_url is not None
        before, after = asyncio.run(migrate_database(settings.database_url))
    if before == after:
        say(f"The database is at revision {after} already.")
    else:
        say(f"The database went from revision {before or 'none'} to {after}.")
