"""`sluice activity`: who did what."""

import shlex
from dataclasses import asdict
from typing import Annotated

import typer

from cli import options
from cli.context import CommandContext, run
from cli.layout import Column
from cli.rendering import print_hint, print_json, print_table, print_text
from db import activity as stored
from producers.accounts import find_account
from schemas.requests import MAX_ID


def activity(
    *,
    account: Annotated[
        str | None, typer.Option("--account", help="Only what was done in this account.")
    ] = None,
    job_id: Annotated[
        int | None,
        typer.Option("--job", metavar="ID", min=1, help="Only what was done with this job."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 20,
    before: Annotated[
        int | None,
        typer.Option("--before", metavar="ID", min=1, help="Only acts before the one of this id."),
    ] = None,
    json_output: options.Json = False,
) -> None:
    """List who did what with jobs, keys, hooks and accounts, the newest first."""

    async def work(ctx: CommandContext) -> list[stored.Activity]:
        async with ctx.pool.acquire() as connection:
            account_id = await find_account(connection, account)
            if max(job_id or 0, before or 0) > MAX_ID:
                return []
            return await stored.list_activity(
                connection,
                account_id=account_id,
                job_id=job_id,
                before=before or MAX_ID,
                limit=limit,
            )

    found = run(work)
    if json_output:
        print_json([asdict(row) for row in found])
    elif found:
        _show(found)
        if len(found) == limit:
            print_text(f"`{_next_page_command(found[-1].id, account, job_id)}` lists older ones.")
    else:
        print_text("Nothing was done yet." if before is None else "Nothing was done before that.")


def _next_page_command(id_: int, account: str | None, job_id: int | None) -> str:
    """Return the command that goes on after the act."""
    words = ["sluice", "activity", "--before", str(id_)]
    words += ["--account", account] if account else []
    words += ["--job", str(job_id)] if job_id else []
    return shlex.join(words)


def _show(found: list[stored.Activity]) -> None:
    several = len({row.account for row in found}) > 1
    columns = (
        *map(Column, ("id", "when", "event", "upon", "actor")),
        *(
            Column(name, is_optional=True)
            for name in ("via", *["account"] * several, "correlation id")
        ),
    )
    omitted = print_table(
        columns,
        [
            (
                *(str(row.id), row.at, row.event, _subject(row), row.actor),
                *(row.via, *[row.account] * several, row.correlation_id),
            )
            for row in found
        ],
    )
    if omitted:
        print_hint(f"Not shown here: {', '.join(omitted)}. --json shows all.")


def _subject(row: stored.Activity) -> str:
    told = (("job", row.job_id), ("key", row.key_id), ("hook", row.hook_id))
    return next((f"{name} {id_}" for name, id_ in told if id_ is not None), "account")
