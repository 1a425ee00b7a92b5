"""`sluice accounts`: list and create accounts, and show or renew their webhook secrets."""

from typing import Annotated

import typer

from cli import options
from cli.context import run
from cli.listing import read_list, show_list
from cli.rendering import print_answer
from db import accounts
from producers.accounts import create_account, get_webhook_secret, renew_webhook_secret
from schemas.actors import CLI

accounts_app = typer.Typer(
    help="List accounts, create one, or show or renew its webhook secret.",
    invoke_without_command=True,
)


@accounts_app.callback()
def list_accounts(typer_ctx: typer.Context, *, json_output: options.Json = False) -> None:
    """List accounts, create one, or show or renew its webhook secret."""
    if typer_ctx.invoked_subcommand is not None:
        return
    show_list(
        read_list(None, lambda connection, _: accounts.list_accounts(connection)),
        ("account", "created"),
        lambda account: (account.name, account.created_at),
        json_output=json_output,
    )


@accounts_app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new account's name.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Create an account."""
    account_id = run(lambda ctx: create_account(ctx.pool, name, actor=CLI))
    print_answer(
        {"id": account_id, "name": name},
        f"The account {name} was created. `--account {name}` selects it.",
        json_output=json_output,
    )


@accounts_app.command()
def secret(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Show the secret that signs the account's completion webhooks."""
    shown = run(lambda ctx: get_webhook_secret(ctx.pool, ctx.settings, name))
    print_answer({"name": name, "secret": shown}, shown, json_output=json_output)


@accounts_app.command("renew-secret")
def renew(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Replace the secret that signs the account's completion webhooks, and show the new one.

    The former secret is no longer used. Give the new one to the receiver now. Webhooks that it
    rejects until then are delivered again for some hours.
    """
    renewed = run(lambda ctx: renew_webhook_secret(ctx.pool, ctx.settings, name, actor=CLI))
    print_answer({"name": name, "secret": renewed}, renewed, json_output=json_output)
