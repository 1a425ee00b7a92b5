"""`sluice apply`: running what was planned."""

from typing import Annotated

import typer

from cli import options
from cli.context import Surroundings, run
from cli.jobs import answer_with_job
from cli.progress import follow
from cli.submit import user_name
from db import jobs
from producers.job_view import JobStory, read_job
from producers.plans import NEEDED, apply_plan
from schemas.actors import CLI
from schemas.errors import NotFound, StateConflict
from schemas.outcomes import JobState


def apply(
    job_id: options.JobId,
    *,
    tolerance: Annotated[
        int,
        typer.Option(
            "--tolerance",
            min=0,
            help="By how many addresses each count may differ from what the plan showed.",
        ),
    ] = 0,
    requested_by: options.RequestedBy = None,
    wait: options.Wait = False,
    as_json_: options.Json = False,
) -> None:
    """Run a job that was planned, if its counts are still those of the plan."""

    async def work(here: Surroundings) -> JobStory:
        async with here.pool.acquire() as connection:
            job = await jobs.get_job(connection, job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}. `sluice jobs` lists the jobs there are.")
        if job.forecast is None:
            raise StateConflict(
                f"Job {job_id} has no plan. Nothing was changed. `sluice plan` makes jobs that are"
                " planned first."
            )
        await apply_plan(
            here.pool,
            here.settings,
            account_id=job.account_id,
            job_id=job_id,
            expected={name: job.forecast[name] for name in NEEDED},
            tolerance=tolerance,
            confirmed_by=requested_by or user_name(),
            actor=CLI,
        )
        await follow(here, job_id, until_ended=wait)
        return await read_job(here.pool, job_id)

    story = run(work, rings=True)
    answer_with_job(story, ended=wait, in_json=as_json_)
    if story.progress.state is JobState.PLANNED:
        raise typer.Exit(1)
