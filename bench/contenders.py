"""The contenders: each does the same jobs on the same lists in its own way."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from bench.competitor_processes import running_competitor
from bench.jobs import job_request, run_job
from bench.templates import LIST, WARM, Copy
from runtime.settings import child_environment
from tests.kit.worker_group import WorkerGroup

JOBS = ("opt_in", "opt_out")

_STATEMENTS = Path(__file__).parent / "competitors" / "one_statement"
_MAX_ATTEMPTS = 50
"""The maximum of attempts for the one statement, which may deadlock with an opt-out."""


class Work(NamedTuple):
    """A job over all contacts of an account. `job_id` is for contenders that do not
    allocate ids.
    """

    account: str
    account_id: int
    action: str
    job_id: int

    @property
    def fields(self) -> list[int]:
        """Return both fields for an opt-in, and the first for an opt-out, which is propagated."""
        return [1, 2] if self.action == "opt_in" else [1]


class JobRun(NamedTuple):
    """A completed job: its id in the results, and its duration."""

    job_id: int
    seconds: float


class Runner(NamedTuple):
    """A contender that is ready for jobs. `run` returns when all of the job is committed."""

    run: Callable[[Work], Coroutine[Any, Any, JobRun]]
    workers: Sequence[int] = ()


class Contender(NamedTuple):
    """One way to do the work. `start` keeps its processes while the context lasts."""

    key: str
    title: str
    start: Callable[[Copy, Path], AbstractAsyncContextManager[Runner]]


def work_on(copy: Copy, action: str) -> Work:
    """Return the job over the measured list."""
    return Work(LIST, copy.template.account_id, action, 1_000_001 + JOBS.index(action))


async def warm_up(running: Runner, copy: Copy) -> None:
    """Do both jobs over another account, so that connections are open and code is loaded."""
    for number, action in enumerate(JOBS):
        await running.run(
            Work(WARM, copy.template.warm_account_id, action, job_id=2_000_001 + number)
        )


@asynccontextmanager
async def _start_statement(copy: Copy, _folder: Path) -> AsyncIterator[Runner]:
    """Run each job as one hand-written statement in one transaction."""
    connection = await asyncpg.connect(copy.url)

    async def run(work: Work) -> JobRun:
        statement = (_STATEMENTS / f"{work.action}.sql").read_text(encoding="utf-8")
        arguments = (work.account_id, work.job_id, work.fields)
        began = time.perf_counter()
        for left in reversed(range(_MAX_ATTEMPTS)):
            try:
                async with connection.transaction():
                    # Enough memory to sort and hash.
                    await connection.execute("set local work_mem = '256MB'")
                    await connection.execute(statement, *arguments)
                break
            except asyncpg.DeadlockDetectedError:
                if not left:
                    raise
        return JobRun(work.job_id, time.perf_counter() - began)

    try:
        yield Runner(run)
    finally:
        connection.terminate()


def _sluice(processes: int, title: str) -> Contender:
    """Return Sluice with worker processes started as the Procfile starts them."""

    @asynccontextmanager
    async def start(copy: Copy, folder: Path) -> AsyncIterator[Runner]:
        settings = copy.settings
        environment = child_environment(
            settings,
            WORKER_PROCESSES=str(processes),
            WORKER_THREADS=str(settings.worker_threads),
            CHUNK_SIZE=str(settings.chunk_size),
            LOG_FORMAT="json",
            LOG_LEVEL="info",
        )

        async def run(work: Work) -> JobRun:
            request = job_request(work.account, work.action, work.fields)
            began = time.perf_counter()
            job_id = await run_job(copy.pool, settings, request)
            return JobRun(job_id, time.perf_counter() - began)

        with WorkerGroup(settings, folder / "sluice.log", **environment) as group:
            yield Runner(run, group.ready(processes=processes).worker_ids())

    return Contender(f"sluice_{processes}", title, start)


def _competitor(key: str, title: str, chunk_size: int | None = None) -> Contender:
    """Return a competitor of `competitors/commands.py`. Chunks have Sluice's size,
    or `chunk_size`.
    """

    @asynccontextmanager
    async def start(copy: Copy, folder: Path) -> AsyncIterator[Runner]:
        async with running_competitor(key, 2, copy.settings, folder) as (ask, workers):

            async def run(work: Work) -> JobRun:
                answer = await ask(
                    {
                        "action": work.action,
                        "account_id": work.account_id,
                        "job_id": work.job_id,
                        "fields": work.fields,
                        "chunk_size": chunk_size or copy.settings.chunk_size,
                    }
                )
                return JobRun(work.job_id, answer["seconds"])

            yield Runner(run, workers)

    return Contender(key, f"{title}, 2 processes", start)


ONE_STATEMENT = Contender("one_statement", "one SQL statement", _start_statement)
SLUICE = _sluice(2, "Sluice, 2 processes")
CONTENDERS = {
    contender.key: contender
    for contender in (
        ONE_STATEMENT,
        _sluice(1, "Sluice, 1 process"),
        SLUICE,
        _sluice(4, "Sluice, 4 processes"),
        _competitor("procrastinate_chunks", "procrastinate + SQL"),
        _competitor("celery_bulk", "Celery + SQLAlchemy, bulk"),
        # A transaction has one contact. Short tasks keep both processes busy on a short list.
        _competitor("celery_objects", "Celery + SQLAlchemy, objects", chunk_size=100),
    )
}
