"""`sluice activity`: what actors did."""

from typing import Annotated

import typer

from cli import options
from cli.listing import AccountFilter, Limit, optional, read_list, show_list
from db import activity as stored
from schemas.requests import MAX_ID
from schemas.views import ActivityView


def activity(
    *,
    account: AccountFilter = None,
    job_id: Annotated[
        int | None,
        typer.Option("--job", metavar="ID", min=1, max=MAX_ID, help="Only those of this job."),
    ] = None,
    limit: Limit = 20,
    before: Annotated[
        int | None,
        typer.Option(
            "--before", metavar="ID", min=1, max=MAX_ID, help="Only those before this id."
        ),
    ] = None,
    json_output: options.Json = False,
) -> None:
    """List who did what with jobs, keys, hooks and accounts, the newest first."""
    found = read_list(
        account,
        lambda connection, account_id: stored.list_activity(
            connection, account_id=account_id, job_id=job_id, before=before or MAX_ID, limit=limit
        ),
    )
    several = len({row.account for row in found}) > 1
    next_page = None
    if len(found) == limit:
        next_page = ["activity", "--before", str(found[-1].id)]
        next_page += ["--account", account] if account else []
        next_page += ["--job", str(job_id)] if job_id else []
    show_list(
        found,
        (
            *("id", "when", "event", "object", "actor"),
            *optional("via", *["account"] * several, "correlation id"),
        ),
        lambda row: (
            *(str(row.id), row.at, row.event, _object(row), row.actor),
            *(row.via, *[row.account] * several, row.correlation_id),
        ),
        json_output=json_output,
        as_json=ActivityView.model_validate,
        empty="Nothing was done yet." if before is None else "Nothing was done before that.",
        next_page=next_page,
    )


def _object(row: ActivityView) -> str:
    ids = (("job", row.job_id), ("key", row.key_id), ("hook", row.hook_id))
    return next((f"{name} {id_}" for name, id_ in ids if id_ is not None), "account")
