"""Following a job to its end, with a bar on a terminal and plain sentences elsewhere."""

import asyncio
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import asyncpg
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
from rich.text import Text

from cli.context import CommandContext
from cli.rendering import get_stderr, print_hint
from db import job_progress, jobs
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobProgress
from runtime.program import expand_program_name
from schemas.errors import NotFound
from schemas.outcomes import FINAL_STATES, JobState

POLL_SECONDS = 0.25
STALLED_AFTER_SECONDS = 10.0
"""After this long without any progress the person is told what may be the matter."""


# The last is what asyncpg raises when a connection ends at an unlucky moment of a query.
_CONNECTION_ERRORS = (*TRANSIENT_ERRORS, asyncpg.InternalClientError)

MAX_OUTAGE_SECONDS = 60.0
"""For this long an outage of Postgres is waited out; the job itself survives any."""


_WIDE_COLUMNS = 90
"""From so many columns on there is room for a long bar beside label, count, rate and time."""

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
        self._room = max(console.width - (_BAR_COLUMNS if is_wide else _BAR_COLUMNS - 16), 10)
        self._progress = Progress(
            SpinnerColumn("line" if console.options.ascii_only else "dots", finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24 if is_wide else 8),
            *((DownloadColumn(), TransferSpeedColumn()) if counts_bytes else (_Count(), _Rate())),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(self._short(label), total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, done: int, total: int | None, label: str | None = None) -> None:
        """Move the bar; without a total it only shows that something happens."""
        short = None if label is None else self._short(label)
        self._progress.update(self._task, completed=done, total=total, description=short)

    def _short(self, label: str) -> str:
        """Shorten the label to the room that the numbers leave."""
        return label if len(label) <= self._room else label[: self._room - 1] + "…"

    def note(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._progress.console.print(expand_program_name(text), soft_wrap=True, style="yellow")


@dataclass
class StallDetector:
    """Notices when a job has not moved for a while, and says why that may be, once per cause."""

    job_id: int
    now: float
    _last: JobProgress | None = None
    _since: float = field(init=False)
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._since = self.now

    def advice(self, moved: JobProgress, now: float) -> str | None:
        """Return what to tell the user at the time `now`; None if nothing is new."""
        if moved != self._last:
            self._last, self._since = moved, now
        text = self._text(moved, now - self._since)
        if text is None or text in self._said:
            return None
        self._said.add(text)
        return text

    def _text(self, moved: JobProgress, stalled_seconds: float) -> str | None:
        if moved.state is JobState.PAUSED:
            return f"The job is paused; `sluice resume {self.job_id}` continues it."
        if stalled_seconds < STALLED_AFTER_SECONDS:
            return None
        if moved.done == 0 and not moved.is_held:
            return "No worker has taken this job yet. `sluice up` starts workers."
        return f"Nothing has changed for {STALLED_AFTER_SECONDS:.0f} seconds. Is a worker running?"


async def follow_job(ctx: CommandContext, job_id: int, *, until_ended: bool = True) -> JobState:
    """Show the job's progress until it has ended, or is planned; gives the state it is in.

    Where it need not have ended, until it is planned.
    """
    async with ctx.pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}. `sluice jobs` lists the jobs there are.")
    try:
        return await _follow(ctx, job, until_ended=until_ended)
    except asyncio.CancelledError:
        # Ctrl-C ends the watching and not the job.
        print_hint(
            f"\nJob {job_id} goes on. `sluice job {job_id} --watch` follows it again,"
            f" `sluice pause {job_id}` and `sluice cancel {job_id}` stop it."
        )
        raise


async def _follow(ctx: CommandContext, job: jobs.Job, *, until_ended: bool) -> JobState:
    detector = StallDetector(job.id, time.monotonic())
    with ProgressBar(f"Job {job.id} {job.action}") as bar:
        while True:
            moved = await _read_progress(ctx, job, bar)
            total = moved.planned if moved.planned_at else None
            bar.show(moved.done, total, f"Job {job.id} {job.action} {moved.state.value}")
            done = FINAL_STATES | {JobState.PLANNED}
            if moved.state in done or (not until_ended and moved.state is not JobState.PLANNING):
                return moved.state
            if advice := detector.advice(moved, time.monotonic()):
                bar.note(advice)
            await asyncio.sleep(POLL_SECONDS)


async def _read_progress(ctx: CommandContext, job: jobs.Job, bar: ProgressBar) -> JobProgress:
    """How far the job is, through an outage of Postgres of up to `MAX_OUTAGE_SECONDS`."""
    began = time.monotonic()
    told = False
    while True:
        try:
            async with ctx.pool.acquire() as connection:
                moved = await job_progress.get_progress(connection, job.account_id, job.id)
        except _CONNECTION_ERRORS:
            if time.monotonic() - began > MAX_OUTAGE_SECONDS:
                raise
            if not told:
                bar.note("Postgres does not answer. Still trying.")
            told = True
            await asyncio.sleep(POLL_SECONDS)
        else:
            assert moved is not None
            return moved
