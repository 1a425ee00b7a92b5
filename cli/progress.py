"""Following a job to its end, with a progress bar at a terminal."""

import asyncio
import time
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from cli.context import CommandContext
from cli.rendering import get_stderr, print_hint
from db import job_progress, jobs
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobProgress
from producers.job_view import JobView, read_job, require_job
from runtime.program import expand_program_name
from schemas.outcomes import FINAL_STATES, JobState

POLL_SECONDS = 0.25
STALLED_AFTER_SECONDS = 10.0
"""After this time without progress the command says what may be the cause."""

MAX_OUTAGE_SECONDS = 60.0
"""Longest outage of Postgres that the command waits out; the job itself survives any."""

_WIDE_COLUMNS = 90
"""From this width on the bar is long."""

_BAR_COLUMNS = 58
"""Columns that the long bar, count, rate and time take."""


class _Count(ProgressColumn):
    """How many of how many."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else f"{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}/{total}", style="progress.download", no_wrap=True)


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="cyan", no_wrap=True)


class ProgressBar:
    """A bar on standard error with count, rate and time left; silent without a terminal."""

    def __init__(self, label: str, *, counts_bytes: bool = False) -> None:
        console = get_stderr()
        is_wide = console.width >= _WIDE_COLUMNS
        # The label is cut so that the numbers fit.
        room = max(console.width - (_BAR_COLUMNS if is_wide else _BAR_COLUMNS - 16), 10)
        label_column = Column(no_wrap=True, overflow="ellipsis", max_width=room)
        self._progress = Progress(
            SpinnerColumn("line" if console.options.ascii_only else "dots", finished_text=" "),
            TextColumn("{task.description}", markup=False, table_column=label_column),
            BarColumn(bar_width=24 if is_wide else 8),
            *((DownloadColumn(), TransferSpeedColumn()) if counts_bytes else (_Count(), _Rate())),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(label, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int, total: int | None, label: str | None = None) -> None:
        """Move the bar; without a total it only shows activity."""
        self._progress.update(self._task, completed=done, total=total, description=label)

    def note(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._progress.console.print(expand_program_name(text), soft_wrap=True, style="yellow")


class StallDetector:
    """Finds out that a job does not move, and says why that may be, once per cause."""

    def __init__(self, job_id: int, now: float) -> None:
        self._job_id = job_id
        self._last: JobProgress | None = None
        self._since = now
        self._given: set[str] = set()

    def advice(self, progress: JobProgress, now: float) -> str | None:
        """Return what to say at the time `now` (seconds), if there is anything new to say."""
        if progress != self._last:
            self._last, self._since = progress, now
        text = self._find_cause(progress, now - self._since)
        if text is None or text in self._given:
            return None
        self._given.add(text)
        return text

    def _find_cause(self, progress: JobProgress, stalled_seconds: float) -> str | None:
        if progress.state is JobState.PAUSED:
            return f"The job is paused. `sluice resume {self._job_id}` continues it."
        if stalled_seconds < STALLED_AFTER_SECONDS:
            return None
        if progress.done == 0 and not progress.is_held:
            return "No worker has taken this job yet. `sluice up` starts workers."
        return f"Nothing has changed for {STALLED_AFTER_SECONDS:.0f} seconds. Is a worker running?"


async def follow_job(ctx: CommandContext, job_id: int, *, until_ended: bool = True) -> JobView:
    """Show the job's progress until it has ended or waits as a plan; return the job.

    Without `until_ended`, return as soon as it runs. Raises NotFound.
    """
    async with ctx.pool.acquire() as connection:
        job = await require_job(connection, job_id)
    try:
        await _follow(ctx, job, until_ended=until_ended)
    except asyncio.CancelledError:
        # Ctrl-C ends the watching and not the job.
        print_hint(
            f"\nJob {job_id} continues. `sluice job {job_id} --watch` follows it again."
            f" `sluice pause {job_id}` and `sluice cancel {job_id}` stop it."
        )
        raise
    return await read_job(ctx.pool, job_id)


async def _follow(ctx: CommandContext, job: jobs.Job, *, until_ended: bool) -> None:
    detector = StallDetector(job.id, time.monotonic())
    with ProgressBar(f"Job {job.id} {job.action}") as bar:
        while True:
            now = await _read_progress(ctx, job, bar)
            total = now.planned if now.planned_at else None
            bar.show(now.done, total, f"Job {job.id} {job.action} {now.state.value}")
            is_idle = now.state in FINAL_STATES or now.state is JobState.PLANNED
            if is_idle or (not until_ended and now.state is not JobState.PLANNING):
                return
            if advice := detector.advice(now, time.monotonic()):
                bar.note(advice)
            await asyncio.sleep(POLL_SECONDS)


async def _read_progress(ctx: CommandContext, job: jobs.Job, bar: ProgressBar) -> JobProgress:
    """Return the job's progress; raises only when Postgres is away for `MAX_OUTAGE_SECONDS`."""
    outage_since: float | None = None
    while True:
        try:
            async with ctx.pool.acquire() as connection:
                progress = await job_progress.get_progress(connection, job.key)
        except TRANSIENT_ERRORS:
            if outage_since is None:
                outage_since = time.monotonic()
                bar.note("Postgres does not answer. Still trying.")
            if time.monotonic() - outage_since > MAX_OUTAGE_SECONDS:
                raise
            await asyncio.sleep(POLL_SECONDS)
        else:
            assert progress is not None
            return progress
