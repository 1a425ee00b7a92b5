"""`sluice accounts`: the customers of the service."""

from typing import Annotated

import typer

from db import jobs
from producers.accounts import create_account
from producers.cli import options
from producers.cli.context import Surroundings, run
from producers.cli.rendering import as_json, say, table
from producers.submit import require_account
from runtime.signing import notice_secret

accounts_app = typer.Typer(
    help="List accounts, add one, or show its secret.", invoke_without_command=True
)


@accounts_app.callback()
def list_accounts(ctx: typer.Context, *, as_json_: options.Json = False) -> None:
    """List accounts, add one, or show its secret."""
    if ctx.invoked_subcommand is not None:
        return

    async def work(here: Surroundings) -> list[jobs.Account]:
        async with here.pool.acquire() as connection:
            return await jobs.list_accounts(connection)

    found = run(work)
    if as_json_:
        as_json([account._asdict() for account in found])
    else:
        table(("account", "created"), [(account.name, account.created_at) for account in found])


@accounts_app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")], *, as_json_: options.Json = False
) -> None:
    """Add an account."""
    account_id = run(lambda here: create_account(here.pool, name))
    if as_json_:
        as_json({"id": account_id, "name": name})
    else:
        say(f"The account {name} was added. `--account {name}` works on its contacts.")


@accounts_app.command()
def secret(
    name: Annotated[str, typer.Argument(metavar="NAME")], *, as_json_: options.Json = False
) -> None:
    """Show the secret with which completion notices of the account are signed."""

    async def work(here: Surroundings) -> str:
        async with here.pool.acquire() as connection:
            account_id = await require_account(connection, name)
        return notice_secret(here.settings, account_id)

    found = run(work)
    if as_json_:
        as_json({"name": name, "secret": found})
    else:
        say(found)
