"""`sluice migrate` and `sluice grants`: prepare the database for this version."""

import asyncio
from typing import Annotated

import typer

from cli.context import command_settings
from cli.rendering import print_text
from cli.table_owner import connect_as_owner, migrate_database
from db.grants import grant, grants
from db.migrate import latest_revision
from runtime import events, logs
from runtime.process import log_startup_failure
from runtime.settings import Settings
from runtime.version import commit, version
from schemas.errors import SluiceError

log = logs.get_logger()


def migrate() -> None:
    """Migrate the database to this version of Sluice. Repeating it changes nothing.

    With OWNER_DATABASE_URL set, it also grants the role of DATABASE_URL what processes need.
    """
    try:
        with command_settings(is_release=True) as settings:
            before, after = asyncio.run(migrate_database(settings))
            log.info(
                events.DATABASE_MIGRATED,
                before=before,
                after=after,
                version=version(),
                commit=commit(settings),
            )
    except SluiceError as error:
        log_startup_failure(
            error, "release", status=error.exit_code, descriptor=logs.STANDARD_ERROR
        )
        raise
    if after != latest_revision():
        print_text(
            f"The database is at revision {after} of a newer Sluice. This version can use it."
            " No migration was run."
        )
    elif before == after:
        print_text(f"The database is at revision {after} already.")
    else:
        print_text(f"The database went from revision {before or 'none'} to {after}.")


def grant_role(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="An existing role of Postgres.")],
    *,
    print_: Annotated[
        bool, typer.Option("--print", help="Print the SQL, and change nothing.")
    ] = False,
) -> None:
    """Let a role run processes and commands, but not change results. Repeating it is safe.

    It connects with OWNER_DATABASE_URL, or with DATABASE_URL if that is not set.
    """

    async def work(settings: Settings) -> list[str]:
        async with connect_as_owner(settings) as connection:
            if print_:
                return [f"{statement};" for statement in await grants(connection, role)]
            await grant(connection, role)
            return [f'The role "{role}" now has what processes and commands need, and no more.']

    with command_settings() as settings:
        for line in asyncio.run(work(settings)):
            print_text(line)
