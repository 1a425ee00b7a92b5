"""`sluice accounts`: the customers of the service."""

from typing import Annotated

import typer

from cli import options
from cli.context import Surroundings, run
from cli.rendering import as_json, say, table
from db import jobs
from producers.accounts import create_account, renew_secret, shown_secret
from schemas.actors import CLI

accounts_app = typer.Typer(
    help="List accounts, add one, or show or renew its secret.", invoke_without_command=True
)


@accounts_app.callback()
def list_accounts(ctx: typer.Context, *, as_json_: options.Json = False) -> None:
    """List accounts, add one, or show or renew its secret."""
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
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    *,
    as_json_: options.Json = False,
) -> None:
    """Add an account."""
    account_id = run(lambda here: create_account(here.pool, name, actor=CLI))
    if as_json_:
        as_json({"id": account_id, "name": name})
    else:
        say(f"The account {name} was added. `--account {name}` works on its contacts.")


@accounts_app.command()
def secret(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")],
    *,
    as_json_: options.Json = False,
) -> None:
    """Show the secret with which completion notices of the account are signed."""
    _tell(name, run(lambda here: shown_secret(here.pool, here.settings, name)), as_json_=as_json_)


@accounts_app.command("renew-secret")
def renew(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")],
    *,
    as_json_: options.Json = False,
) -> None:
    """Give the account another secret for completion notices, and show it.

    The former one is not used any more. Give the new one to the receiver now: what it refuses
    meanwhile is sent again for some hours.
    """
    renewed = run(lambda here: renew_secret(here.pool, here.settings, name, actor=CLI))
    _tell(name, renewed, as_json_=as_json_)


def _tell(name: str, secret: str, *, as_json_: bool) -> None:
    if as_json_:
        as_json({"name": name, "secret": secret})
    else:
        say(secret)
