"""Sends jobs to procrastinate: `python -m bench.competitors.procrastinate_chunks.driver`."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from psycopg import AsyncConnection

from bench.competitors.environment import DATABASE_URL, PROCESSES
from bench.competitors.jobs import STALLED_SECONDS, Job, JobFailed, serve
from bench.competitors.procrastinate_chunks.app import QUEUE, answer, app, work_chunk

_LOOK_AGAIN_SECONDS = 0.03
_CHUNKS_AT_ONCE = 100
"""The number of jobs that one statement defers."""

_WORKERS = "select count(*) as workers from procrastinate_workers"
_PROGRESS = """
select count(*) filter (where status in ('todo', 'doing')) as unfinished,
       count(*) filter (where status not in ('todo', 'doing', 'succeeded')) as failed
from procrastinate_jobs
where id between %(first)s and %(last)s and queue_name = %(queue)s
"""
_CONTACTS = "select id from contacts where account_id = %s order by id"


def main() -> int:
    """Serve the harness."""
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        runner.run(_prepare(opened))
        try:
            return serve(lambda job, chunk_size: runner.run(_run(job, chunk_size)))
        finally:
            runner.run(opened.aclose())


async def _prepare(opened: AsyncExitStack) -> None:
    await opened.enter_async_context(app.open_async())
    if not await app.check_connection_async():
        await app.schema_manager.apply_schema_async()
    deadline = time.monotonic() + STALLED_SECONDS
    while await _workers() < PROCESSES:
        if time.monotonic() > deadline:
            raise JobFailed("the workers do not answer")
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    await _until_done([await answer.defer_async()])


async def _workers() -> int:
    return (await app.connector.execute_query_one_async(_WORKERS))["workers"]


async def _run(job: Job, chunk_size: int) -> int:
    ids = await _send(job, chunk_size)
    if ids:
        await _until_done(ids)
    return len(ids)


async def _send(job: Job, chunk_size: int) -> list[int]:
    """Defer the chunks, many per statement, while contacts are read. Return the jobs' ids."""
    deferred: list[int] = []
    waiting: list[dict[str, Any]] = []
    chunk_no = 0
    async for contact_ids in _chunks(job, chunk_size):
        chunk_no += 1
        waiting.append({"job": job._asdict(), "chunk_no": chunk_no, "contact_ids": contact_ids})
        if len(waiting) == _CHUNKS_AT_ONCE:
            deferred += await work_chunk.batch_defer_async(*waiting)
            waiting.clear()
    if waiting:
        deferred += await work_chunk.batch_defer_async(*waiting)
    return deferred


async def _chunks(job: Job, chunk_size: int) -> AsyncIterator[list[int]]:
    async with (
        await AsyncConnection.connect(DATABASE_URL) as connection,
        connection.cursor("contacts") as cursor,
    ):
        await cursor.execute(_CONTACTS, (job.account_id,))
        while rows := await cursor.fetchmany(chunk_size):
            yield [id_ for (id_,) in rows]


async def _until_done(ids: list[int]) -> None:
    """Wait until all have succeeded. Raise JobFailed if one failed, or if none ends."""
    before, changed_at = len(ids) + 1, time.monotonic()
    while before:
        unfinished, failed = await _progress(ids)
        if failed:
            raise JobFailed(f"{failed} chunks failed; the workers' log says why")
        if unfinished < before:
            before, changed_at = unfinished, time.monotonic()
        elif time.monotonic() - changed_at > STALLED_SECONDS:
            raise JobFailed("no chunk was done for too long")
        if unfinished:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def _progress(ids: list[int]) -> tuple[int, int]:
    row = await app.connector.execute_query_one_async(
        _PROGRESS, first=min(ids), last=max(ids), queue=QUEUE
    )
    return row["unfinished"], row["failed"]


if __name__ == "__main__":
    sys.exit(main())
