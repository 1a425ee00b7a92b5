"""How many examples Hypothesis makes, and examples that are asynchronous, which it is not."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

PROFILES = {"dev": 0.1, "ci": 0.5, "nightly": 20.0}
"""How many times what a test asks for is made, by `--hypothesis-profile`."""
_MADE_BY_DEFAULT = 100
"""What Hypothesis makes for a test that asks for nothing in particular."""


def register_hypothesis_profiles() -> None:
    """Make the profiles known, and load the one of `make test`; the command line may name another.

    On a machine that does other things too, a slow example says nothing.
    """
    for name, factor in PROFILES.items():
        most = round(factor * _MADE_BY_DEFAULT)
        hypothesis_settings.register_profile(name, deadline=None, max_examples=most)
    hypothesis_settings.load_profile("ci")


def example_count(count: int) -> int:
    """Return how many examples the loaded profile makes where a test asks for `count`."""
    return max(1, round(count * hypothesis_settings.default.max_examples / _MADE_BY_DEFAULT))


async def check_property(
    check: Callable[..., Awaitable[None]],
    *strategies: st.SearchStrategy[Any],
    max_examples: int,
    explicit_examples: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Run the coroutine function on `example_count(max_examples)` of the strategies, on the running
    loop, and on the examples `explicit_examples` that were made by hand.
    """
    loop = asyncio.get_running_loop()

    def run(values: tuple[Any, ...]) -> None:
        asyncio.run_coroutine_threadsafe(check(*values), loop).result()

    test = given(st.tuples(*strategies))(run)
    for values in explicit_examples:
        test = example(values)(test)
    decorate = hypothesis_settings(
        max_examples=example_count(max_examples), suppress_health_check=list(HealthCheck)
    )
    await asyncio.to_thread(decorate(test))
