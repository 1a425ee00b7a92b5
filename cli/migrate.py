"""`sluice migrate` and `sluice grants`: the database as this version needs it."""

import asyncio
from typing import Annotated

import typer

from cli.context import surroundings
from cli.owner import bring_up_to_date, grant_as_owner, grants_as_owner
from cli.rendering import say
from db.migrate import head
from runtime import events, logs
from runtime.process import log_refusal
from runtime.version import commit, version
from schemas.errors import SluiceError

log = logs.get()


def migrate() -> None:
    """Bring the database to this version of Sluice. Doing it again changes nothing.

    With OWNER_DATABASE_URL set, it also grants the role of DATABASE_URL what processes need.
    """
    try:
        with surroundings(releases=True) as settings:
            before, after = asyncio.run(bring_up_to_date(settings))
            log.info(
                events.DATABASE_MIGRATED,
                before=before,
                after=after,
                version=version(),
                commit=commit(settings),
            )
    except SluiceError as error:
        log_refusal(error, "release", status=error.exit_code, descriptor=logs.STANDARD_ERROR)
        raise
    if after != head():
        say(
            f"The database is at revision {after}, of a newer Sluice, and suits this one. Nothing"
            " was done."
        )
    elif before == after:
        say(f"The database is at revision {after} already.")
    else:
        say(f"The database went from revision {before or 'none'} to {after}.")


def grant_role(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="A role of Postgres that exists.")],
    *,
    print_: Annotated[
        bool, typer.Option("--print", help="Print the SQL, and change nothing.")
    ] = False,
) -> None:
    """Let a role run processes and commands, and not change results. Doing it again is safe.

    It asks by OWNER_DATABASE_URL, or by DATABASE_URL where that is not set.
    """
    with surroundings() as settings:
        if not print_:
            asyncio.run(grant_as_owner(settings, role))
            say(f'The role "{role}" may do what processes and commands do, and no more.')
            return

        for statement in asyncio.run(grants_as_owner(settings, role)):
            say(f"{statement};")
