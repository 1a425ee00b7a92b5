"""Hypothesis, which is not asynchronous, with examples that are."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st


async def for_all(
    check: Callable[..., Awaitable[None]],
    *strategies: st.SearchStrategy[Any],
    max_examples: int,
    and_for: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Run the coroutine function on examples of the strategies, on the running loop, and on the
    examples `and_for` that were made by hand.
    """
    loop = asyncio.get_running_loop()

    def run(values: tuple[Any, ...]) -> None:
        asyncio.run_coroutine_threadsafe(check(*values), loop).result()

    test = given(st.tuples(*strategies))(run)
    for values in and_for:
        test = example(values)(test)
    decorate = hypothesis_settings(
        max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck)
    )
    await asyncio.to_thread(decorate(test))
