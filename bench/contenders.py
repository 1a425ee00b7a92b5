"""Those who are measured: each does the same jobs on the same lists, in its own way."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import asyncpg

from bench.measuring import Show, Stand, Task, job_figures, submit_and_wait
from bench.peers import running_peer
from bench.templates import LIST, WARM, Copy
from bench.workers_group import running_workers
from schemas.requests import FIELD_NUMBERS

_STATEMENTS = Path(__file__).parent / "competitors" / "one_statement"
_WORK_MEM = "set local work_mem = '256MB'"
"""So much that nothing of the statement has to be sorted or hashed through files."""

_TRIES = 50
"""How often the one statement is begun where a deadlock with somebody ended it."""


class Work(NamedTuple):
    """A job over all contacts of an account of a copy. `job_id` is for those who draw none."""

    account: str
    account_id: int
    action: str
    fields: tuple[str, ...]
    job_id: int

    @property
    def numbers(self) -> list[int]:
        return [FIELD_NUMBERS[name] for name in self.fields]


class Done(NamedTuple):
    """A job that has been done: its id in the results, how long it took, and what else is known."""

    job_id: int
    seconds: float
    more: dict[str, Any]


class Running(Protocol):
    """A contender that is ready for jobs; `workers` are the processes that do the work."""

    workers: Sequence[int]

    async def job(self, work: Work, show: Show) -> Done:
        """Do the job and return when all of it is committed."""
        ...


class Contender(Protocol):
    """One way to do the work."""

    @property
    def key(self) -> str: ...

    @property
    def title(self) -> str: ...

    def on(self, copy: Copy, folder: Path) -> AbstractAsyncContextManager[Running]:
        """Its processes, ready, for as long as the context lasts."""
        ...


def opt_in(copy: Copy) -> Work:
    """Opt-in of both fields."""
    return Work(LIST, copy.template.account_id, "opt_in", ("email1", "email2"), 1_000_001)


def opt_out(copy: Copy) -> Work:
    """Opt-out of email1, which spreads to email2."""
    return Work(LIST, copy.template.account_id, "opt_out", ("email1",), 1_000_002)


async def warm_up(running: Running, copy: Copy) -> None:
    """Both jobs over contacts of another account: connections are made, and code is loaded."""
    for number, work in enumerate((opt_in(copy), opt_out(copy))):
        account_id = copy.template.warm_account_id
        await running.job(
            work._replace(account=WARM, account_id=account_id, job_id=2_000_001 + number), no_show
        )


def no_show(_done: int, _planned: int) -> None:
    """For whoever does not want to see how far a job is."""


class OneStatement(NamedTuple):
    """All of a job by one hand-written statement, in one transaction."""

    folder: Path = _STATEMENTS
    key: str = "one_statement"
    title: str = "one SQL statement"

    @asynccontextmanager
    async def on(self, copy: Copy, folder: Path) -> AsyncIterator[Running]:
        del folder
        connection = await asyncpg.connect(copy.url)
        try:
            yield _Statement(connection, self.folder)
        finally:
            connection.terminate()


class _Statement:
    workers: Sequence[int] = ()

    def __init__(self, connection: asyncpg.Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder

    async def job(self, work: Work, show: Show) -> Done:
        del show
        statement = (self._folder / f"{work.action}.sql").read_text(encoding="utf-8")
        began = time.perf_counter()
        for tried in range(1, _TRIES + 1):
            try:
                async with self._connection.transaction():
                    await self._connection.execute(_WORK_MEM)
                    await self._connection.execute(
                        statement, work.account_id, work.job_id, work.numbers
                    )
                break
            except asyncpg.DeadlockDetectedError:
                if tried == _TRIES:
                    raise
        return Done(work.job_id, time.perf_counter() - began, {"tries": tried})


class Sluice(NamedTuple):
    """Sluice with so many worker processes, started as the Procfile starts them."""

    processes: int

    @property
    def key(self) -> str:
        return f"sluice_{self.processes}"

    @property
    def title(self) -> str:
        return f"Sluice, {self.processes} {'process' if self.processes == 1 else 'processes'}"

    @asynccontextmanager
    async def on(self, copy: Copy, folder: Path) -> AsyncIterator[Running]:
        settings = copy.settings.model_copy(update={"worker_processes": self.processes})
        with running_workers(settings, folder / "sluice.log", in_order=False) as workers:
            yield _Fleet(Stand(copy.pool, settings, workers, embedded=True))


class _Fleet:
    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.workers = stand.workers

    async def job(self, work: Work, show: Show) -> Done:
        task = Task(work.account, work.action, work.fields)
        began = time.perf_counter()
        job_id = await submit_and_wait(self.stand, task, show)
        seconds = time.perf_counter() - began
        figures = await job_figures(self.stand.pool, job_id)
        more = ("plan_seconds", "chunks", "chunk_ms_median", "chunk_ms_longest", "attempts")
        return Done(job_id, seconds, {name: figures[name] for name in more})


class Peer(NamedTuple):
    """A competitor with processes of its own, by its name in `competitors/commands.py`; its chunks
    have as many contacts as Sluice's, or `chunk_size`.
    """

    key: str
    title: str
    processes: int = 2
    chunk_size: int | None = None

    @asynccontextmanager
    async def on(self, copy: Copy, folder: Path) -> AsyncIterator[Running]:
        async with running_peer(self.key, self.processes, copy.settings, folder) as peer:
            chunk_size = self.chunk_size or copy.settings.chunk_size
            yield _Driven(peer.workers, peer.ask, chunk_size)


class _Driven:
    def __init__(self, workers: Sequence[int], ask: Any, chunk_size: int) -> None:
        self.workers = workers
        self._ask = ask
        self._chunk_size = chunk_size

    async def job(self, work: Work, show: Show) -> Done:
        del show
        answer = await self._ask(
            {
                "action": work.action,
                "account_id": work.account_id,
                "job_id": work.job_id,
                "fields": work.numbers,
                "chunk_size": self._chunk_size,
            }
        )
        return Done(work.job_id, answer["seconds"], {"chunks": answer["chunks"]})


ONE_STATEMENT = OneStatement()
CELERY_BULK = Peer("celery_bulk", "Celery + SQLAlchemy, bulk, 2 processes")
CELERY_OBJECTS = Peer("celery_objects", "Celery + SQLAlchemy, objects, 2 processes", chunk_size=100)
"""A transaction has one contact, whatever the chunk; with short tasks a short list keeps both
processes busy."""
PROCRASTINATE = Peer("procrastinate_chunks", "procrastinate + SQL, 2 processes")
