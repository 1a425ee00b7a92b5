"""Hypothesis, which is not asynchronous, with examples that are."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings


async def for_all(
    check: Callable[..., Awaitable[None]],
    *strategies: Any,
    max_examples: int,
    by_hand: tuple[Callable[[Any], Any], ...] = (),
) -> None:
    """Run the coroutine function on examples of the strategies, on the running loop."""
    loop = asyncio.get_running_loop()

    def run(*values: Any) -> None:
        asyncio.run_coroutine_threadsafe(check(*values), loop).result()

    test = given(*strategies)(run)
    for add in by_hand:
        test = add(test)
    decorate = hypothesis_settings(
        max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck)
    )
    await asyncio.to_thread(decorate(test))
