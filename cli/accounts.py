"""`sluice accounts`: the customers of the service."""

from typing import Annotated

import typer

from cli import options
from cli.context import CommandContext, run
from cli.rendering import print_json, print_table, print_text
from db import accounts
from producers.accounts import create_account, get_webhook_secret, renew_webhook_secret
from schemas.actors import CLI

accounts_app = typer.Typer(
    help="List accounts, add one, or show or renew its secret.", invoke_without_command=True
)


@accounts_app.callback()
def list_accounts(typer_ctx: typer.Context, *, json_output: options.Json = False) -> None:
    """List accounts, add one, or show or renew its secret."""
    if typer_ctx.invoked_subcommand is not None:
        return

    async def work(ctx: CommandContext) -> list[accounts.Account]:
        async with ctx.pool.acquire() as connection:
            return await accounts.list_accounts(connection)

    found = run(work)
    if json_output:
        print_json([account._asdict() for account in found])
    else:
        print_table(
            ("account", "created"), [(account.name, account.created_at) for account in found]
        )


@accounts_app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Add an account."""
    account_id = run(lambda ctx: create_account(ctx.pool, name, actor=CLI))
    if json_output:
        print_json({"id": account_id, "name": name})
    else:
        print_text(f"The account {name} was added. `--account {name}` works on its contacts.")


@accounts_app.command()
def secret(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Show the secret with which completion notices of the account are signed."""
    _print_secret(
        name,
        run(lambda ctx: get_webhook_secret(ctx.pool, ctx.settings, name)),
        json_output=json_output,
    )


@accounts_app.command("renew-secret")
def renew(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Give the account another secret for completion notices, and show it.

    The former one is not used any more. Give the new one to the receiver now: what it refuses
    meanwhile is sent again for some hours.
    """
    renewed = run(lambda ctx: renew_webhook_secret(ctx.pool, ctx.settings, name, actor=CLI))
    _print_secret(name, renewed, json_output=json_output)


def _print_secret(name: str, secret: str, *, json_output: bool) -> None:
    if json_output:
        print_json({"name": name, "secret": secret})
    else:
        print_text(secret)
