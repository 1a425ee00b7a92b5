"""`sluice apply`: confirm a plan, so that its job runs."""

from typing import Annotated

import typer

from cli import options
from cli.context import CommandContext, run
from cli.input_files import get_user_name
from cli.job_view import print_job
from cli.progress import follow_job
from producers.job_view import JobView, require_job
from producers.plans import REQUIRED_COUNTS, apply_plan
from schemas.actors import CLI
from schemas.errors import StateConflict
from schemas.outcomes import JobState


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
