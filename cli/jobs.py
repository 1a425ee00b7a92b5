"""`sluice jobs`, `sluice job`, and the commands that apply, pause, resume or cancel a job."""

from typing import Annotated, TypeAlias

import typer

from cli import options
from cli.context import CommandContext, run
from cli.input_files import get_user_name
from cli.job_view import print_job
from cli.listing import AccountFilter, Limit, optional, read_list, show_list
from cli.progress import follow_job
from cli.rendering import format_age, print_answer
from db import jobs
from producers import control
from producers.job_view import JobSummary, JobView, read_job, require_job
from producers.plans import REQUIRED_COUNTS, apply_plan
from schemas.actors import CLI
from schemas.errors import StateConflict
from schemas.outcomes import JobState
from schemas.requests import MAX_ID

_Before: TypeAlias = Annotated[
    int,
    typer.Option(
        "--before", metavar="ID", min=1, max=MAX_ID, help="Only jobs older than this one."
    ),
]


def list_jobs(
    *,
    account: AccountFilter = None,
    state: Annotated[
        list[JobState] | None, typer.Option("--state", help="Only jobs in this state. Repeatable.")
    ] = None,
    limit: Limit = 20,
    before: _Before = MAX_ID,
    json_output: options.Json = False,
) -> None:
    """List jobs, the newest first."""
    states = state or ()
    found = read_list(
        account,
        lambda connection, account_id: jobs.list_jobs(
            connection, account_id=account_id, before=before, limit=limit, states=states
        ),
    )
    several = len({job.account for job in found}) > 1
    next_page = None
    if len(found) == limit:
        next_page = ["jobs", "--before", str(found[-1].id)]
        next_page += ["--account", account] if account else []
        next_page += [word for each in states for word in ("--state", each.value)]
    show_list(
        found,
        (
            *("job", "created", "action", "state"),
            *optional("account") * several,
            *("selected", "applied"),
            *optional("unchanged", "rejected", "empty", "propagated", "requested by", "actor"),
        ),
        lambda job: (
            *(str(job.id), format_age(job.created_at), job.action, job.state.value),
            *([job.account] * several),
            *(job.selected, job.applied, job.unchanged, job.rejected, job.empty),
            *(job.propagated, job.requested_by, job.actor),
        ),
        json_output=json_output,
        as_json=JobSummary.from_row,
        empty="There are no such jobs. `sluice jobs` lists all jobs."
        if states or before < MAX_ID
        else "There are no jobs. `sluice import` and `sluice submit` create jobs.",
        all_columns="`sluice job ID` and --json show",
        next_page=next_page,
    )


def show_job(
    job_id: options.JobId,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow its progress until it ends.")
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Show a job: what was asked for, its state, and the outcomes."""

    async def work(ctx: CommandContext) -> JobView:
        return await (follow_job(ctx, job_id) if watch else read_job(ctx.pool, job_id))

    print_job(run(work), ended=watch, json_output=json_output)


def apply(
    job_id: options.JobId,
    *,
    tolerance: Annotated[
        int,
        typer.Option(
            "--tolerance", min=0, help="How much each count may differ from what the plan showed."
        ),
    ] = 0,
    requested_by: options.RequestedBy = None,
    wait: options.Wait = False,
    json_output: options.Json = False,
) -> None:
    """Run a planned job if its counts are still those of the plan."""

    async def work(ctx: CommandContext) -> JobView:
        async with ctx.pool.acquire() as connection:
            job = await require_job(connection, job_id)
        if job.forecast is None:
            raise StateConflict(
                f"Job {job_id} has no plan. Nothing was changed. `sluice plan` creates jobs with a"
                " plan."
            )
        await apply_plan(
            ctx.pool,
            ctx.settings,
            job.key,
            expected={name: job.forecast[name] for name in REQUIRED_COUNTS},
            tolerance=tolerance,
            confirmed_by=requested_by or get_user_name(),
            actor=CLI,
        )
        return await follow_job(ctx, job_id, until_ended=wait)

    job = run(work, enqueues=True)
    print_job(job, ended=wait, json_output=json_output)
    if job.state is JobState.PLANNED:
        raise typer.Exit(1)


def pause(job_id: options.JobId, *, json_output: options.Json = False) -> None:
    """Pause a job. When this command returns, no further address changes."""
    state = run(lambda ctx: control.pause(ctx.pool, ctx.settings, None, job_id, actor=CLI))
    _print_state(job_id, state, json_output, f"`sluice resume {job_id}` continues it.")


def resume(job_id: options.JobId, *, json_output: options.Json = False) -> None:
    """Continue a paused job where it stopped."""
    state = run(
        lambda ctx: control.resume(ctx.pool, ctx.settings, None, job_id, actor=CLI), enqueues=True
    )
    _print_state(job_id, state, json_output, f"`sluice job {job_id} --watch` follows it.")


def cancel(job_id: options.JobId, *, json_output: options.Json = False) -> None:
    """End a job. Applied changes stay, and no further address changes."""
    state = run(lambda ctx: control.cancel(ctx.pool, ctx.settings, None, job_id, actor=CLI))
    next_step = (
        f"`sluice job {job_id}` shows what was done, and"
        f" `sluice results {job_id} --outcome unprocessed` what was not."
    )
    _print_state(job_id, state, json_output, next_step)


def _print_state(
    job_id: int,
    state: JobState,
    json_output: bool,  # noqa: FBT001
    next_step: str,
) -> None:
    answer = {"job_id": job_id, "state": state}
    print_answer(answer, f"Job {job_id} is {state.value}. {next_step}", json_output=json_output)
