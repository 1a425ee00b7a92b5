"""Waiting for what should become true, with a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_POLL_SECONDS = 0.1


async def becomes_true(seconds: float, condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    """Whether the condition came true before so many seconds had passed."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if await value if inspect.isawaitable(value) else value:
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
