"""The plans of `make bench` and of `make bench-large`: the measurements and their order."""

from collections.abc import Collection
from functools import partial

from bench.contenders import CONTENDERS, JOBS, ONE_STATEMENT, SLUICE
from bench.imports import measure_imports
from bench.over_http import measure_http
from bench.rounds import run_rounds
from bench.session import Environment, Measure
from bench.single_opt_outs import measure_during_jobs, measure_idle

_ROUNDS = {
    "large": ("one_statement", "sluice_1", "sluice_2"),
    "middle": ("one_statement", "sluice_1", "sluice_2", "sluice_4", "procrastinate_chunks"),
    "small": ("one_statement", "sluice_2", "celery_bulk"),
    "tiny": ("sluice_2", "celery_objects"),
}
"""Contenders that alternate on each list: slow ones have small lists."""

_DURING_JOBS = {
    "one_statement": "large",
    "sluice_2": "large",
    "procrastinate_chunks": "middle",
    "celery_bulk": "small",
}
"""Contenders whose jobs run while recipients opt out, and the lists of these jobs."""


def plan_of(only: Collection[str], *, large: bool) -> Measure:
    """Return the measurements of the contenders in `only`, for `make bench-large`
    or `make bench`.
    """
    return _measure_large if large else partial(_measure, only)


async def _measure(only: Collection[str], environment: Environment) -> None:
    sizes = environment.sizes
    for name, keys in _ROUNDS.items():
        contenders = [CONTENDERS[key] for key in keys if key in only]
        # Only `make bench-large` has time for opt-outs of a million contacts.
        jobs = ("opt_in",) if name == "large" else JOBS
        await run_rounds(environment, name, contenders, jobs, sizes.rounds)
    # A single pause of the machine can determine a longest time, so Sluice has several passes.
    for key in [*_DURING_JOBS, *[SLUICE.key] * (sizes.passes - 1)]:
        if key in only:
            await measure_during_jobs(environment, _DURING_JOBS[key], CONTENDERS[key])
    if SLUICE.key in only:
        await measure_idle(environment)
        await measure_http(environment)
        await measure_imports(environment)


async def _measure_large(environment: Environment) -> None:
    rounds = environment.sizes.rounds
    for name, times in {"middle": rounds, "large": rounds, "huge": 1}.items():
        await run_rounds(environment, name, [ONE_STATEMENT, SLUICE], JOBS, times)
