"""Waiting for what should become true, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_POLL_SECONDS = 0.05


async def within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> bool:
    """Whether the condition came true before so many seconds had passed."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
