"""The number of Hypothesis examples, and asynchronous examples, which Hypothesis lacks."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

PROFILES = {"dev": 0.1, "ci": 0.5, "nightly": 20.0}
"""The factor by which `--hypothesis-profile` multiplies the number that a test requests."""
_MADE_BY_DEFAULT = 100
"""The number of examples if a test requests none."""


def register_hypothesis_profiles() -> None:
    """Register the profiles, and load the one of `make test`; the command line may choose another.

    There is no deadline: on a busy machine a slow example means nothing.
    """
    for name, factor in PROFILES.items():
        most = round(factor * _MADE_BY_DEFAULT)
        hypothesis_settings.register_profile(name, deadline=None, max_examples=most)
    hypothesis_settings.load_profile("ci")


def example_count(count: int) -> int:
    """Return the number of examples of the loaded profile for a test that requests `count`."""
    return max(1, round(count * hypothesis_settings.default.max_examples / _MADE_BY_DEFAULT))


async def check_property(
    check: Callable[..., Awaitable[None]],
    *strategies: st.SearchStrategy[Any],
    max_examples: int,
    explicit_examples: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Check `example_count(max_examples)` examples of the strategies on the running loop. The
    `explicit_examples` are checked as well.
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
