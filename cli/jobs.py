"""`sluice jobs`, `sluice job`, and the commands that pause, resume or cancel a job."""

import shlex
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import options
from cli.context import Surroundings, run
from cli.job_view import job_as_dict, show_story, story_as_dict
from cli.layout import Column
from cli.output_guard import for_who_reads
from cli.progress import follow
from cli.rendering import age, as_json, hint, say, table
from db import jobs
from producers import control
from producers.job_view import JobStory, read_job
from producers.submit import named_account
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
    as_json_: options.Json = False,
) -> None:
    """List jobs, the newest first."""

    async def work(here: Surroundings) -> list[jobs.Job]:
        async with here.pool.acquire() as connection:
            account_id = await named_account(connection, account)
            return await jobs.list_jobs(
                connection, account_id=account_id, before=before, most=limit, states=state or ()
            )

    found = run(work)
    if as_json_:
        as_json([job_as_dict(job) for job in found])
    elif found:
        _show_list(found, limit, older=_older(found[-1].id, account, state or ()))
    elif state or before < MAX_ID:
        say("There are no such jobs. `sluice jobs` lists all.")
    else:
        say("There are no jobs. `sluice import` and `sluice submit` make some.")


def _older(job_id: int, account: str | None, states: Sequence[JobState]) -> str:
    """The command that goes on after the job."""
    words = ["sluice", "jobs", "--before", str(job_id)]
    words += ["--account", account] if account else []
    for state in states:
        words += ["--state", state.value]
    return shlex.join(words)


def _show_list(found: list[jobs.Job], limit: int, *, older: str) -> None:
    several = len({job.account for job in found}) > 1
    columns = (
        *map(Column, ("job", "created", "action", "state")),
        *[Column("account", spared=True)] * several,
        *map(Column, ("selected", "applied")),
        *(Column(name, spared=True) for name in ("unchanged", "rejected", "empty", "propagated")),
        *(Column(name, spared=True) for name in ("asked for by", "actor")),
    )
    spared = table(
        columns,
        [
            (
                *(str(job.id), age(job.created_at), job.action, job.state.value),
                *([job.account] * several),
                *(job.selected, job.applied, job.unchanged, job.rejected, job.empty),
                *(job.propagated, job.requested_by, job.actor),
            )
            for job in found
        ],
    )
    if spared:
        hint(f"Not shown here: {', '.join(spared)}. `sluice job ID` and --json show all.")
    if len(found) == limit:
        say(f"`{older}` lists older ones.")


def show_job(
    job_id: options.JobId,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow its progress until it has ended.")
    ] = False,
    as_json_: options.Json = False,
) -> None:
    """Show a job: what was asked, where it stands, and what became of the addresses."""

    async def work(here: Surroundings) -> JobStory:
        if watch:
            await follow(here, job_id)
        return await read_job(here.pool, job_id)

    answer_with_job(run(work), ended=watch, in_json=as_json_)


def answer_with_job(story: JobStory, *, ended: bool, in_json: bool) -> None:
    """Show the job; where it was to be `ended`, the exit status tells whether it was done."""
    with for_who_reads():
        if in_json:
            as_json(story_as_dict(story))
        else:
            show_story(story)
    if ended and story.progress.state is not JobState.COMPLETED:
        raise typer.Exit(1)


def pause(job_id: options.JobId, *, as_json_: options.Json = False) -> None:
    """Pause a job. Once this has answered, no further address changes."""
    state = run(lambda here: control.pause(here.pool, here.settings, None, job_id, actor=CLI))
    _answer_with_state(job_id, state, as_json_, f"`sluice resume {job_id}` continues it.")


def resume(job_id: options.JobId, *, as_json_: options.Json = False) -> None:
    """Continue a paused job where it stopped."""
    state = run(
        lambda here: control.resume(here.pool, here.settings, None, job_id, actor=CLI), rings=True
    )
    _answer_with_state(job_id, state, as_json_, f"`sluice job {job_id} --watch` follows it.")


def cancel(job_id: options.JobId, *, as_json_: options.Json = False) -> None:
    """End a job. What it has changed stays changed, and no further address changes."""
    state = run(lambda here: control.cancel(here.pool, here.settings, None, job_id, actor=CLI))
    _answer_with_state(
        job_id,
        state,
        as_json_,
        f"`sluice job {job_id}` shows what was done, and"
        f" `sluice results {job_id} --outcome unprocessed` what was not.",
    )


def _answer_with_state(
    job_id: int,
    state: JobState,
    in_json: bool,  # noqa: FBT001
    what_next: str,
) -> None:
    if in_json:
        as_json({"job": job_id, "state": state})
    else:
        say(f"Job {job_id} is {state.value}. {what_next}")
