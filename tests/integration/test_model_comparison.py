"""Sluice agrees with the simple model for any lists, jobs, chunk sizes and parallelism.

Chunks run in this process, several at the same time, on a real Postgres. `tests/acceptance` makes
the same comparison with worker processes.
"""

from hypothesis import strategies as st

from db.pool import open_pool
from runtime.settings import Settings
from tests.kit.in_process import InProcessRunner
from tests.kit.model_comparison import (
    ADDRESSES,
    ModelComparison,
    job_sequences,
    link_lists,
    selecting_jobs,
    start_statuses,
)
from tests.kit.property_examples import check_property

# Statuses that had drifted apart before the import: the second address is opted out, the first is
# not.
DRIFTED = [("non_marketable", False), ("manual", False), *[("non_marketable", False)] * 5]
SIBLING_ON_ANOTHER_CONTACT = [{1: ADDRESSES[0]}, {1: ADDRESSES[0], 2: ADDRESSES[1]}]
SIBLING_IN_ANOTHER_FIELD = [{1: ADDRESSES[0], 3: ADDRESSES[1]}]
SIBLING_IS_ROLE_ADDRESS = [{1: ADDRESSES[0], 2: ADDRESSES[1]}, {1: ADDRESSES[1]}, {1: ADDRESSES[1]}]
# A contact that counted as a repeat gets an address that no other contact holds.
REPEAT_GAINS_ADDRESS = [
    (
        "import",
        [(name, {1: ADDRESSES[0], 2: ADDRESSES[2]}) for name in ("Bob", "Ann")],
        None,
        False,
    ),
    ("import", [("Ann", {1: ADDRESSES[0], 2: ADDRESSES[1], 3: ADDRESSES[2]})], None, False),
]
# The first row of the second import makes an address a role address, so the second row is about no
# contact that holds only that one.
BECOMES_ROLE_ADDRESS = [
    (
        "import",
        [
            ("", {1: ADDRESSES[0]}),
            ("Ann", {1: ADDRESSES[1]}),
            ("Bob", {1: ADDRESSES[1], 2: ADDRESSES[3]}),
        ],
        None,
        False,
    ),
    (
        "import",
        [("", {1: ADDRESSES[0], 2: ADDRESSES[1]}), ("", {1: ADDRESSES[1], 2: ADDRESSES[2]})],
        None,
        False,
    ),
]
OPT_IN_THE_FIRST = [("opt_in", [0], [1], None)]


async def test_jobs_over_any_list_end_as_the_model_says(database_url: str, settings: Settings):
    """Promises 1, 3 and 6: for lists that may have drifted apart, statuses, counts by reason and
    ledgers equal the model's.
    """
    async with await open_pool(database_url, size=4) as pool:

        async def check(contacts, statuses, steps, chunk_size, parallel) -> None:
            run = InProcessRunner(pool, settings, chunk_size=chunk_size, parallel=parallel)
            comparison = ModelComparison(pool, run)
            await comparison.begin(contacts, statuses)
            for step in steps:
                await comparison.apply(*step)

        await check_property(
            check,
            link_lists,
            start_statuses,
            selecting_jobs,
            st.integers(1, 4),
            st.integers(1, 3),
            max_examples=120,
            explicit_examples=(
                (SIBLING_ON_ANOTHER_CONTACT, DRIFTED, OPT_IN_THE_FIRST, 1, 1),
                (SIBLING_IN_ANOTHER_FIELD, DRIFTED, OPT_IN_THE_FIRST, 1, 1),
                (SIBLING_IS_ROLE_ADDRESS, DRIFTED, OPT_IN_THE_FIRST, 2, 1),
            ),
        )


async def test_jobs_after_imports_end_as_the_model_says(database_url: str, settings: Settings):
    """Promises 1, 2, 3 and 6 hold for lists that are imported. At rest, no address is marketable if
    an opt-out in its own right propagates to it.
    """
    async with await open_pool(database_url, size=4) as pool:

        async def check(steps, chunk_size, parallel) -> None:
            run = InProcessRunner(pool, settings, chunk_size=chunk_size, parallel=parallel)
            comparison = ModelComparison(pool, run)
            await comparison.begin()
            for step in steps:
                await comparison.apply(*step)
                assert not comparison.model.at_rest_violations()

        await check_property(
            check, job_sequences, st.integers(1, 4), st.integers(1, 3), max_examples=120
        )


async def test_imports_recognize_contacts_as_the_model_does(database_url: str, settings: Settings):
    """Promise 2: contacts are imported again, with other names or more addresses. Each row, in
    order, is recognized as the contact that the model names.
    """
    async with await open_pool(database_url, size=4) as pool:

        async def check(steps, chunk_size) -> None:
            run = InProcessRunner(pool, settings, chunk_size=chunk_size, parallel=1)
            comparison = ModelComparison(pool, run, in_order=True)
            await comparison.begin()
            for step in steps:
                await comparison.apply(*step)
                assert not comparison.model.at_rest_violations()

        await check_property(
            check,
            job_sequences,
            st.integers(1, 6),
            max_examples=150,
            explicit_examples=((REPEAT_GAINS_ADDRESS, 1), (BECOMES_ROLE_ADDRESS, 3)),
        )
