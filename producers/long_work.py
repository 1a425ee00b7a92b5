"""What keeps a processor busy for long, away from the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_ONE = ThreadPoolExecutor(1, thread_name_prefix="long-work")


async def in_turn(work: Callable[[], T]) -> T:
    """Return what the work gives, done in a thread, one at a time in this process.

    Several threads would take as long together and hold the memory of all of them, and the event
    loop would wait for each of them whenever it has something to do. Raises what the work does.
    """
    return await asyncio.get_running_loop().run_in_executor(_ONE, work)
