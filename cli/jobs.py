"""`sluice jobs`, `sluice job`, and the commands that pause, resume or cancel a job."""

import shlex
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import options
from cli.context import CommandContext, run
from cli.job_view import job_to_dict, show_view, view_to_dict
from cli.layout import Column
from cli.output_guard import ignore_closed_output
from cli.progress import follow_job
from cli.rendering import format_age, print_hint, print_json, print_table, print_text
from db import jobs
from producers import control
from producers.accounts import find_account
from producers.job_view import JobView, read_job
from schemas.actors import CLI
from schemas.outcomes import JobState
from schemas.requests import MAX_ID


def list_jobs(
    *,
    account: Annotated[
        str | None, typer.Option("--account", help="Only the jobs of this account.")
    ] = None,
    state: Annotated[
        list[JobState] | None,
        typer.Option("--state", help="Only jobs in this state; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 20,
    before: Annotated[
        int, typer.Option("--before", min=1, max=MAX_ID, help="Only jobs older than this one.")
    ] = MAX_ID,
    json_output: options.Json = False,
) -> None:
    """List jobs, the newest first."""

    async def work(ctx: CommandContext) -> list[jobs.Job]:
        async with ctx.pool.acquire() as connection:
            account_id = await find_account(connection, account)
            return await jobs.list_jobs(
                connection, account_id=account_id, before=before, limit=limit, states=state or ()
            )

    found = run(work)
    if json_output:
        print_json([job_to_dict(job) for job in found])
    elif found:
        _show_list(found, limit, older=_next_page_command(found[-1].id, account, state or ()))
    elif state or before < MAX_ID:
        print_text("There are no such jobs. `sluice jobs` lists all.")
    else:
        print_text("There are no jobs. `sluice import` and `sluice submit` make some.")


def _next_page_command(job_id: int, account: str | None, states: Sequence[JobState]) -> str:
    """Return the command that lists the jobs before this one."""
    words = ["sluice", "jobs", "--before", str(job_id)]
    words += ["--account", account] if account else []
    for state in states:
        words += ["--state", state.value]
    return shlex.join(words)


def _show_list(found: list[jobs.Job], limit: int, *, older: str) -> None:
    several = len({job.account for job in found}) > 1
    columns = (
        *map(Column, ("job", "created", "action", "state")),
        *[Column("account", is_optional=True)] * several,
        *map(Column, ("selected", "applied")),
        *(
            Column(name, is_optional=True)
            for name in ("unchanged", "rejected", "empty", "propagated")
        ),
        *(Column(name, is_optional=True) for name in ("asked for by", "actor")),
    )
    omitted = print_table(
        columns,
        [
            (
                *(str(job.id), format_age(job.created_at), job.action, job.state.value),
                *([job.account] * several),
                *(job.selected, job.applied, job.unchanged, job.rejected, job.empty),
                *(job.propagated, job.requested_by, job.actor),
            )
            for job in found
        ],
    )
    if omitted:
        print_hint(f"Not shown here: {', '.join(omitted)}. `sluice job ID` and --json show all.")
    if len(found) == limit:
        print_text(f"`{older}` lists older ones.")


def show_job(
    job_id: options.JobId,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow its progress until it has ended.")
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Show a job: what was asked, where it stands, and what became of the addresses."""

    async def work(ctx: CommandContext) -> JobView:
        if watch:
            await follow_job(ctx, job_id)
        return await read_job(ctx.pool, job_id)

    print_job(run(work), ended=watch, json_output=json_output)


def print_job(story: JobView, *, ended: bool, json_output: bool) -> None:
    """Show the job; where it was to be `ended`, the exit status tells whether it was done."""
    with ignore_closed_output():
        if json_output:
            print_json(view_to_dict(story))
        else:
            show_view(story)
    if ended and story.progress.state is not JobState.COMPLETED:
        raise typer.Exit(1)


def pause(job_id: options.JobId, *, json_output: options.Json = False) -> None:
    """Pause a job. Once this has answered, no further address changes."""
    state = run(lambda ctx: control.pause(ctx.pool, ctx.settings, None, job_id, actor=CLI))
    _print_state(job_id, state, json_output, f"`sluice resume {job_id}` continues it.")


def resume(job_id: options.JobId, *, json_output: options.Json = False) -> None:
    """Continue a paused job where it stopped."""
    state = run(
        lambda ctx: control.resume(ctx.pool, ctx.settings, None, job_id, actor=CLI), enqueues=True
    )
    _print_state(job_id, state, json_output, f"`sluice job {job_id} --watch` follows it.")


def cancel(job_id: options.JobId, *, json_output: options.Json = False) -> None:
    """End a job. What it has changed stays changed, and no further address changes."""
    state = run(lambda ctx: control.cancel(ctx.pool, ctx.settings, None, job_id, actor=CLI))
    _print_state(
        job_id,
        state,
        json_output,
        f"`sluice job {job_id}` shows what was done, and"
        f" `sluice results {job_id} --outcome unprocessed` what was not.",
    )


def _print_state(
    job_id: int,
    state: JobState,
    json_output: bool,  # noqa: FBT001
    what_next: str,
) -> None:
    if json_output:
        print_json({"job_id": job_id, "state": state})
    else:
        print_text(f"Job {job_id} is {state.value}. {what_next}")
