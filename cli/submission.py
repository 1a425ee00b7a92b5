"""The end of every command that stores a job: tell its id, follow it, show it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from cli.context import CommandContext, run
from cli.job_view import print_job
from cli.progress import follow_job
from cli.rendering import print_hint, print_json, print_text
from producers.imports import ImportSubmission
from producers.job_view import JobView
from producers.submit import JobSubmission

Submission = TypeVar("Submission", JobSubmission, ImportSubmission)


def submit_and_show(
    store: Callable[[CommandContext], Awaitable[Submission]],
    describe: Callable[[Submission], list[str]],
    *,
    wait: bool,
    json_output: bool,
    ended: bool = True,
) -> None:
    """Store a job with `store` and print its id, or with `wait` follow it and print the job.

    `describe` gives the sentences about what was stored. Pass `ended=False` for a plan: the
    exit status is then 0 whatever the state.
    """

    async def work(ctx: CommandContext) -> tuple[Submission, JobView | None]:
        submission = await store(ctx)
        if not wait:
            return submission, None
        _print_submission(submission, describe, print_hint)
        return submission, await follow_job(ctx, submission.job_id)

    submission, job = run(work, enqueues=True)
    if job is not None:
        print_job(job, ended=ended, json_output=json_output)
    elif json_output:
        stored = submission._asdict()
        print_json({name: stored[name] for name in stored if name != "account_id"})
    else:
        _print_submission(submission, describe, print_text)
        print_text(f"`sluice job {submission.job_id} --watch` follows it.")


def _print_submission(
    submission: Submission,
    describe: Callable[[Submission], list[str]],
    write: Callable[[str], None],
) -> None:
    for sentence in describe(submission):
        write(sentence)
    if not submission.enqueued:
        print_hint("Redis did not answer. A worker will find the job when Redis is back.")
