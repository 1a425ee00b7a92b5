"""How long rows of addresses stay locked, as seen from another session of the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from bench.effects import sql
from bench.templates import Copy

OBSERVER = "bench observer"
"""The application name of sessions that take part in no job; `rounds.sql` ignores them."""


@asynccontextmanager
async def watch_locks(copy: Copy) -> AsyncIterator[list[float]]:
    """Watch the locks of addresses. At the end, append the longest one, in ms, to the list."""
    named = {"application_name": OBSERVER}
    holder = await asyncpg.connect(copy.url, server_settings=named)
    watcher = await asyncpg.connect(copy.url, server_settings=named)
    longest: list[float] = []
    try:
        await sql.create_lock_watch(watcher)
        await holder.execute("select pg_advisory_lock(hashtext('watch_locks'))")
        watching = asyncio.create_task(watcher.execute("call pg_temp.watch_locks()"))
        try:
            yield longest
        finally:
            await holder.execute("select pg_advisory_unlock_all()")
            await watching
        longest.append(round(await sql.longest_lock_ms(watcher), 1))
    finally:
        holder.terminate()
        watcher.terminate()
