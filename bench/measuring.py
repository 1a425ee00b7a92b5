"""Runs one job on real workers and says what it cost."""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import psutil

from bench.lists import sql
from bench.watching import Watch, cpu_seconds, machine_busy_seconds
from producers.submit import submit
from runtime.settings import Settings, child_environment
from schemas.requests import JobRequest, Selection

_POLL_SECONDS = 0.2
_JOB_POLL_SECONDS = 0.03
_SMALL_POLL_SECONDS = 0.002
_PAUSE_SECONDS = 0.2

EVIDENCE = {
    "source": "customer_relationship",
    "description": "Customers who agreed to hear from us; made up for a measurement.",
    "collected_from": "2020-01-01",
    "collected_until": "2020-12-31",
    "attested_by": "the benchmark",
}

Show = Callable[[int, int], None]
"""Told how many of how many pairs are done."""


class Stand(NamedTuple):
    """What measurements need: connections, settings, and the worker processes to be watched."""

    pool: asyncpg.Pool
    settings: Settings
    workers: Sequence[int]
    embedded: bool


class Task(NamedTuple):
    """A job to be measured, over all contacts of an account."""

    account: str
    action: str
    fields: tuple[str, ...]

    def request(self) -> JobRequest:
        return JobRequest.model_validate(
            {
                "account": self.account,
                "action": self.action,
                "selection": Selection(all=True),
                "fields": self.fields,
                "evidence": EVIDENCE if self.action == "opt_in" else None,
                "requested_by": "the benchmark",
            }
        )


async def submit_and_wait(stand: Stand, task: Task, show: Show) -> int:
    """Submit the job and wait until it is seen to have completed; gives its id."""
    submitted = await submit(stand.pool, stand.settings, task.request())
    await completed(stand.pool, submitted.job_id, show, poll_seconds=_JOB_POLL_SECONDS)
    return submitted.job_id


async def measure_import(
    stand: Stand, account: str, file: str, show: Show
) -> tuple[dict[str, Any], int]:
    """Import the file by a process of its own; gives the figures and the job's id."""
    costs = Costs(stand)
    async with costs.measured():
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.stage_file", file, account),
            env=child_environment(stand.settings, QUEUE_NAMESPACE=stand.settings.queue_namespace),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            with Watch([process.pid]) as watch:
                output, _ = await process.communicate()
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        if process.returncode:
            raise RuntimeError(f"The import ended with exit status {process.returncode}.")
        staged = time.perf_counter()
        job_id = int(output.split()[-1])
        await completed(stand.pool, job_id, show)
        ended = time.perf_counter()
    figures = await job_figures(stand.pool, job_id)
    figures |= costs.figures(figures["selected"] - figures["empty"])
    figures |= {
        # The job's row is as old as the transaction that stages the file.
        "plan_seconds": round(max(0.0, figures["plan_seconds"] - (staged - began)), 3),
        "total_seconds": round(ended - began, 2),
        "staging_seconds": round(staged - began, 2),
        "working_seconds": round(ended - staged, 2),
        "submitter": watch.peaks[process.pid].as_mb(),
    }
    return figures, job_id


async def measure_small_jobs(stand: Stand, account: str, contacts: Sequence[int]) -> dict[str, Any]:
    """Jobs of one contact, one after the other on an idle system: from submit to completed."""
    milliseconds = []
    for contact in contacts:
        # Until the workers have gone back to waiting for messages.
        await asyncio.sleep(_PAUSE_SECONDS)
        request = JobRequest(
            account=account,
            action="opt_out",
            selection=Selection(contacts=(contact,)),
            requested_by="the benchmark",
        )
        began = time.perf_counter()
        submitted = await submit(stand.pool, stand.settings, request)
        await completed(stand.pool, submitted.job_id, poll_seconds=_SMALL_POLL_SECONDS)
        milliseconds.append((time.perf_counter() - began) * 1000)
    return {
        "jobs": len(milliseconds),
        "ms": [round(value, 1) for value in milliseconds],
        "ms_median": round(statistics.median(milliseconds), 1),
        "ms_shortest": round(min(milliseconds), 1),
        "ms_longest": round(max(milliseconds), 1),
    }


async def first_contacts(pool: asyncpg.Pool, account_id: int, most: int) -> list[int]:
    """Contacts for the small jobs."""
    async with pool.acquire() as connection:
        rows = sql.first_contacts(connection, account_id=account_id, most=most)
        return [row["id"] async for row in rows]


async def completed(
    pool: asyncpg.Pool,
    job_id: int,
    show: Show | None = None,
    *,
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Return when the job has completed; raises RuntimeError when it ended otherwise.

    It is looked for every `poll_seconds`, and more often at first, so that what is short is not
    measured in such steps.
    """
    began = time.perf_counter()
    while True:
        async with pool.acquire() as connection:
            state, done, planned = await sql.job_done(connection, job_id=job_id)
        if show is not None:
            show(done, planned)
        if state == "completed":
            return
        if state not in {"planning", "running"}:
            raise RuntimeError(f"Job {job_id} is {state}.")
        passed = time.perf_counter() - began
        await asyncio.sleep(min(poll_seconds, max(_SMALL_POLL_SECONDS, passed / 30)))


async def job_figures(pool: asyncpg.Pool, job_id: int) -> dict[str, Any]:
    """What a completed job says of itself; durations in seconds, of chunks in milliseconds."""
    async with pool.acquire() as connection:
        row = await sql.job_figures(connection, job_id=job_id)
    figures = {"job": job_id} | dict(row)
    figures["addresses_per_second"] = round(row["selected"] / row["seconds"])
    changed = row["applied"] + row["propagated"]
    figures["changed_per_second"] = round(changed / row["seconds"])
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in figures.items()
    }


class Costs:
    """What workers, server and machine spent in a `measured` block."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._watch = Watch(stand.workers)

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        self._before = await self._now()
        with self._watch:
            yield
        self._after = await self._now()

    async def _now(self) -> dict[str, float]:
        async with self._stand.pool.acquire() as connection:
            wal = await sql.wal_bytes(connection)
            backend = connection.get_server_pid()
        return {
            "wal_mb": wal / 1e6,
            "cpu_workers": cpu_seconds(self._stand.workers),
            "cpu_postgres": cpu_seconds(_server_pids(backend)) if self._stand.embedded else 0.0,
            "cpu_bench": cpu_seconds([os.getpid()]),
            "cpu_machine": machine_busy_seconds(),
            "seconds": time.perf_counter(),
        }

    def figures(self, addresses: int) -> dict[str, Any]:
        spent = {name: round(self._after[name] - self._before[name], 2) for name in self._after}
        ours = sum(spent[name] for name in ("cpu_workers", "cpu_postgres", "cpu_bench"))
        capacity = spent["seconds"] * (os.cpu_count() or 1)
        # A server of this machine that is not embedded counts among the others.
        others = max(0.0, spent["cpu_machine"] - ours)
        return {
            "wal_mb": spent["wal_mb"],
            "wal_bytes_per_address": round(spent["wal_mb"] * 1e6 / max(addresses, 1)),
            "cpu_seconds": {
                "workers": spent["cpu_workers"],
                "postgres": spent["cpu_postgres"] if self._stand.embedded else None,
                "others": round(others, 2),
            },
            "others_percent": round(100 * others / capacity, 1),
            "workers": [self._watch.peaks[pid].as_mb() for pid in self._stand.workers],
        }


def _server_pids(backend: int) -> list[int]:
    server = psutil.Process(backend).parent()
    assert server is not None
    return [server.pid, *(child.pid for child in server.children())]
