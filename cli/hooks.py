"""`sluice hooks`: where senders without an API key post what recipients did."""

from typing import Annotated

import typer

from cli import options
from cli.context import CommandContext, run
from cli.rendering import print_facts, print_hint, print_json, print_table, print_text
from db import hooks as stored
from producers.accounts import find_account
from producers.hooks import (
    FORMER_DAYS,
    MAX_FORMER_DAYS,
    NewHook,
    create_hook,
    revoke_hook,
    rotate_hook_secret,
)
from schemas.actors import CLI

hooks_app = typer.Typer(
    help="Hooks: where other systems post opt-outs, without an API key.", no_args_is_help=True
)


@hooks_app.command()
def create(
    *,
    source: Annotated[
        str, typer.Option("--source", help="Which system will post, in one word: keap, for one.")
    ],
    account: options.Account = "default",
    json_output: options.Json = False,
) -> None:
    """Make a hook. Its paths and its secret are shown once."""
    made = run(
        lambda ctx: create_hook(ctx.pool, ctx.settings, account=account, source=source, actor=CLI)
    )
    if json_output:
        print_json({**made._asdict(), "account": account, "source": source})
        return
    _show(made)
    print_hint(
        "Put the URL of your Sluice before a path. Anyone who knows the path of the form can opt"
        f" out addresses of the account {account}. Sign JSON for the other path with the secret."
    )


@hooks_app.command("list")
def list_hooks(
    *,
    account: Annotated[
        str | None, typer.Option("--account", help="Only the hooks of this account.")
    ] = None,
    json_output: options.Json = False,
) -> None:
    """List hooks, the newest first, those that were revoked among them."""

    async def work(ctx: CommandContext) -> list[stored.HookSummary]:
        async with ctx.pool.acquire() as connection:
            account_id = await find_account(connection, account)
            return await stored.list_hooks(connection, account_id)

    found = run(work)
    if json_output:
        print_json([hook._asdict() for hook in found])
    elif not found:
        print_text("There are no hooks. `sluice hooks create --source NAME` makes one.")
    else:
        print_table(
            ("hook", "account", "source", "created", "key", "former until", "revoked"),
            [
                (
                    *(str(h.id), h.account, h.source, h.created_at),
                    *(h.key_id, h.former_until, h.revoked_at),
                )
                for h in found
            ],
        )


@hooks_app.command()
def renew(
    hook_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The hook's number.")],
    *,
    former_days: Annotated[
        int,
        typer.Option(
            "--former-days",
            min=0,
            max=MAX_FORMER_DAYS,
            help="For how many days the former secret and form path count beside the new ones; 0"
            " where they have leaked.",
        ),
    ] = FORMER_DAYS,
    json_output: options.Json = False,
) -> None:
    """Give a hook another secret and form path. They are shown once."""
    made = run(
        lambda ctx: rotate_hook_secret(
            ctx.pool, ctx.settings, hook_id, former_days=former_days, actor=CLI
        )
    )
    if json_output:
        print_json({**made._asdict(), "former_days": former_days})
        return
    _show(made)
    print_hint(
        f"Give them to the sender. The former ones count for {former_days} days more."
        if former_days
        else "Give them to the sender. The former ones do not count any more."
    )


@hooks_app.command()
def revoke(
    hook_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The hook's number.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Revoke a hook, from the next request on."""
    run(lambda ctx: revoke_hook(ctx.pool, hook_id, actor=CLI))
    if json_output:
        print_json({"id": hook_id, "revoked": True})
    else:
        print_text(f"Hook {hook_id} is revoked.")


def _show(made: NewHook) -> None:
    print_facts(
        (
            ("hook", str(made.id)),
            ("form", made.form_path),
            ("events", made.events_path),
            ("secret", made.secret),
        )
    )
