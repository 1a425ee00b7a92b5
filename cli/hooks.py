"""`sluice hooks`: the endpoints where other systems report opt-outs."""

from typing import Annotated

import typer

from cli import options
from cli.context import run
from cli.listing import AccountFilter, read_list, show_list
from cli.output_guard import require_stdout
from cli.rendering import print_answer, print_facts, print_hint, print_json
from db import hooks as stored
from producers.hooks import (
    FORMER_DAYS,
    MAX_FORMER_DAYS,
    NewHook,
    create_hook,
    renew_hook_secret,
    revoke_hook,
)
from schemas.actors import CLI

hooks_app = typer.Typer(
    help="Endpoints where other systems report opt-outs without an API key.", no_args_is_help=True
)


@hooks_app.command()
def create(
    *,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            metavar="NAME",
            help="The system that will report, in one word, such as keap.",
        ),
    ],
    account: options.Account = "default",
    json_output: options.Json = False,
) -> None:
    """Create a hook. Its paths and its secret are shown once."""
    require_stdout()
    made = run(
        lambda ctx: create_hook(ctx.pool, ctx.settings, account=account, source=source, actor=CLI)
    )
    if json_output:
        print_json({**made._asdict(), "account": account, "source": source})
        return
    _show(made)
    print_hint(
        "Put the URL of your Sluice before each path. Anyone who knows the path of the form can"
        f" opt out addresses of the account {account}. Sign what you send to the other path with"
        " the secret."
    )


@hooks_app.command("list")
def list_hooks(*, account: AccountFilter = None, json_output: options.Json = False) -> None:
    """List hooks, including revoked ones, the newest first."""
    show_list(
        read_list(account, stored.list_hooks),
        ("hook", "account", "source", "created", "key", "former until", "revoked"),
        lambda hook: (
            *(str(hook.id), hook.account, hook.source, hook.created_at),
            *(hook.key_id, hook.former_until, hook.revoked_at),
        ),
        json_output=json_output,
        empty="There are no hooks. `sluice hooks create --source NAME` creates one.",
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
            metavar="DAYS",
            help="How many days the former secret and form path still work. Give 0 if they have"
            " leaked.",
        ),
    ] = FORMER_DAYS,
    json_output: options.Json = False,
) -> None:
    """Replace the secret and the form path of a hook. The new ones are shown once."""
    require_stdout()
    made = run(
        lambda ctx: renew_hook_secret(
            ctx.pool, ctx.settings, hook_id, former_days=former_days, actor=CLI
        )
    )
    if json_output:
        print_json({**made._asdict(), "former_days": former_days})
        return
    _show(made)
    print_hint(
        f"Give them to the sender. The former ones still work for {former_days} days."
        if former_days
        else "Give them to the sender. The former ones no longer work."
    )


@hooks_app.command()
def revoke(
    hook_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The hook's number.")],
    *,
    json_output: options.Json = False,
) -> None:
    """Revoke a hook. It stops working with the next request."""
    run(lambda ctx: revoke_hook(ctx.pool, hook_id, actor=CLI))
    print_answer(
        {"id": hook_id, "revoked": True}, f"Hook {hook_id} is revoked.", json_output=json_output
    )


def _show(made: NewHook) -> None:
    print_facts(
        (
            ("hook", str(made.id)),
            ("form", made.form_path),
            ("events", made.events_path),
            ("secret", made.secret),
        )
    )
