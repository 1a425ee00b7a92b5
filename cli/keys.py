"""`sluice keys`: the API keys with which services call the HTTP API."""

from typing import Annotated

import typer

from cli import options
from cli.context import run
from cli.listing import AccountFilter, read_list, show_list
from cli.output_guard import require_stdout
from cli.rendering import print_answer, print_hint, print_json, print_text
from db import keys as stored
from producers.keys import Scope, create_key, parse_expiry, revoke_key
from schemas.actors import CLI

keys_app = typer.Typer(help="API keys for the HTTP API.", no_args_is_help=True)


@keys_app.command()
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Who will use it; jobs show this name.")
    ],
    *,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help=f"A scope of the key: {', '.join(Scope)}. Repeatable. (default: all)",
        ),
    ] = None,
    account: options.Account = "default",
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="DAY",
            help="When it stops working: at the beginning of a day (2027-01-01, in UTC), or after"
            " a number of days (90d). (default: never)",
        ),
    ] = None,
    json_output: options.Json = False,
) -> None:
    """Create a key. It is shown once, since only its digest is stored."""
    require_stdout()
    scopes = scope or list(Scope)
    expires_at = None if expires is None else parse_expiry(expires)
    made = run(
        lambda ctx: create_key(
            ctx.pool, account=account, name=name, scopes=scopes, expires_at=expires_at, actor=CLI
        )
    )
    if json_output:
        print_json(
            {**made._asdict(), "account": account, "scopes": scopes, "expires_at": expires_at}
        )
        return
    print_text(made.secret)
    end = f" It expires on {expires_at:%Y-%m-%d at %H:%M} UTC." if expires_at else ""
    print_hint(
        f"Key {made.id} of the account {account}. Store it now: it cannot be shown again.{end}"
    )


@keys_app.command("list")
def list_keys(*, account: AccountFilter = None, json_output: options.Json = False) -> None:
    """List keys, including revoked and expired ones, the newest first."""
    show_list(
        read_list(account, stored.list_keys),
        ("key", "account", "name", "scopes", "created", "last used", "expires", "revoked"),
        lambda key: (
            *(str(key.id), key.account, key.name, " ".join(key.scopes), key.created_at),
            *(key.last_used_at, key.expires_at, key.revoked_at),
        ),
        json_output=json_output,
        empty="There are no keys. `sluice keys create NAME` creates one.",
    )


@keys_app.command()
def revoke(
    key_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The key's number.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Revoke a key. It stops working within a second."""
    run(lambda ctx: revoke_key(ctx.pool, key_id, actor=CLI))
    print_answer(
        {"id": key_id, "revoked": True},
        f"Key {key_id} is revoked. It stops working within a second.",
        json_output=json_output,
    )
