"""Postgres restarted without a goodbye, and its connections ended."""

import asyncio

from tests.chaos.faults import Stage
from tests.chaos.observer import APPLICATION
from tests.chaos.schedule import Fault


async def restart(stage: Stage, fault: Fault) -> str:
    """SIGQUIT to the server, "immediate" mode, and a start some seconds later, with recovery."""
    await asyncio.to_thread(stage.servers.crash_postgres)
    try:
        await asyncio.sleep(fault.lasts)
    finally:
        await asyncio.to_thread(stage.servers.start_postgres)
    return f"away for {fault.lasts:.1f} s and its recovery"


async def terminate_connections(stage: Stage, fault: Fault) -> str:
    """`pg_terminate_backend` of every connection of workers and producers."""
    del fault
    ended = await stage.observer.value("terminate_connections", spared=APPLICATION)
    return f"ended {ended} connections"
