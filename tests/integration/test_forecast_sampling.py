"""A forecast decides one contact of each group of alike contacts and counts it for the group."""

from collections.abc import Iterator
from itertools import islice

from hypothesis import strategies as st

from db.pool import open_pool
from runtime.settings import Settings
from tests.integration.test_plans import ForecastRunner
from tests.kit.model_comparison import ADDRESSES, ModelComparison
from tests.kit.property_examples import check_property

SHAPES = ["x", "xx", "xy", "xxx", "xxy", "xyx", "yxx", "xyz"]
"""For each contact, the letter of the address in each field; equal letters are one address."""

shapes = st.lists(st.sampled_from(SHAPES), min_size=2, max_size=6)
few_statuses = st.lists(
    st.sampled_from([("non_marketable", False), ("admin", False), ("admin", True)]),
    min_size=len(ADDRESSES),
    max_size=len(ADDRESSES),
)
fields = st.sets(st.integers(1, 3), min_size=1).map(sorted)
jobs = st.tuples(
    st.sampled_from([("opt_in", None), ("opt_out", "admin"), ("opt_out", "manual")]), fields
)


def contacts_of(shapes: list[str]) -> Iterator[dict[int, str]]:
    """Return contacts of these shapes without shared addresses, until no addresses are left."""
    unused = iter(ADDRESSES)
    for shape in shapes:
        letters = sorted(set(shape))
        addresses = dict(zip(letters, islice(unused, len(letters)), strict=False))
        if len(addresses) == len(letters):
            yield {field: addresses[letter] for field, letter in enumerate(shape, start=1)}


async def test_contacts_that_only_seem_alike_are_counted_separately(
    database_url: str, settings: Settings
):
    """Contacts with the same statuses in the same fields are not alike if one of them has one
    address in two fields.
    """
    async with await open_pool(database_url, size=4) as pool:

        async def check(shapes, initial_statuses, job) -> None:
            contacts = list(contacts_of(shapes))
            (action, kind), selected_fields = job
            comparison = ModelComparison(pool, ForecastRunner(pool, settings, 10))
            await comparison.begin(contacts, initial_statuses)
            await comparison.apply(action, list(range(len(contacts))), selected_fields, kind)

        await check_property(check, shapes, few_statuses, jobs, max_examples=80)
