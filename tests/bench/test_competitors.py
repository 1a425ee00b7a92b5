"""The benchmark's competitors do the same work as Sluice on any list.

They have an environment of their own, which only the benchmark needs.
"""

from collections import Counter
from itertools import count
from pathlib import Path

import asyncpg
import pytest
from hypothesis import strategies as st

from bench.competitor_processes import PYTHON, Ask, running_competitor
from bench.competitors.commands import COMPETITORS
from runtime.settings import Settings
from tests.kit.factories import fill, make_account, statuses_of
from tests.kit.model import Model
from tests.kit.model_comparison import ADDRESSES, any_status, fields, links
from tests.kit.property_examples import check_property

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-bench")

LIMIT = 10
"""The most contacts that may hold an address before it is a role address."""

crowds = st.tuples(st.sampled_from([0, 0, 8, 10, 11, 14]), st.sampled_from([1, 2]))
"""The number of contacts that hold the first address in this field, and an address of their own in
the next field.
"""


def contacts_with_crowd(held: list[dict[int, str]], crowd: tuple[int, int]) -> list[dict[int, str]]:
    """Return the contacts, and those of the crowd."""
    count, number = crowd
    return [
        *held,
        *({number: ADDRESSES[0], number + 1: f"own{n}@example.com"} for n in range(count)),
    ]


link_lists = st.builds(contacts_with_crowd, st.lists(links, min_size=1, max_size=9), crowds)
present = st.lists(any_status, min_size=len(ADDRESSES), max_size=len(ADDRESSES))
jobs = st.lists(st.tuples(st.sampled_from(["opt_in", "opt_out"]), fields), min_size=1, max_size=3)

DRIFTED = [("non_marketable", False), ("manual", False), *[("non_marketable", False)] * 5]
# An address of two contacts, one of which has an opted-out sibling.
SHARED = [{1: ADDRESSES[0]}, {2: ADDRESSES[3]}, {}, {1: ADDRESSES[0], 2: ADDRESSES[1]}]
# The opt-out is propagated to the fourth contact, which has no selected address.
BEYOND = [{1: ADDRESSES[0]}, {2: ADDRESSES[3]}, {}, {2: ADDRESSES[0], 3: ADDRESSES[4]}]
CROWDED = contacts_with_crowd([{2: ADDRESSES[0], 3: ADDRESSES[2]}], (11, 1))
BOTH = [("opt_in", [1, 2]), ("opt_out", [1])]

_numbers = count(1)


@pytest.mark.parametrize("name", sorted(COMPETITORS))
async def test_competitors_do_as_the_model_says(
    name: str, pool: asyncpg.Pool, settings: Settings, tmp_path: Path
):
    """Statuses, counts by reason and histories equal the model's, with several
    concurrent chunks.
    """
    async with running_competitor(name, 2, settings, tmp_path) as (ask, _):

        async def check(contacts, statuses, todo) -> None:
            number = next(_numbers)
            account_id = await make_account(pool, f"competed-{number}")
            model = _model(contacts, statuses, base=1_000_000 * number)
            await fill(pool, account_id, model.contacts, model.statuses)
            for action, chosen in todo:
                await _compare(pool, ask, model, account_id, action, chosen)

        await check_property(
            check,
            *(link_lists, present, jobs),
            max_examples=60,
            explicit_examples=[(contacts, DRIFTED, BOTH) for contacts in (SHARED, BEYOND, CROWDED)],
        )


def _model(contacts, statuses, base: int) -> Model:
    own = {a for held in contacts for a in held.values()}.difference(ADDRESSES)
    return Model(
        LIMIT,
        {base + n: dict(held) for n, held in enumerate(contacts)},
        dict(zip(ADDRESSES, statuses, strict=True))
        | dict.fromkeys(sorted(own), ("non_marketable", False)),
    )


async def _compare(
    pool: asyncpg.Pool, ask: Ask, model: Model, account_id: int, action: str, chosen
) -> None:
    before = await statuses_of(pool, account_id)
    job_id = next(_numbers)
    job = {"action": action, "account_id": account_id, "job_id": job_id, "fields": chosen}
    assert set(await ask(job | {"chunk_size": 3})) == {"seconds", "chunks"}
    ids = sorted(model.contacts)
    expected = (
        model.opt_in(ids, chosen) if action == "opt_in" else model.opt_out(ids, chosen, "admin")
    )
    expected.pop(("empty", None), None)
    assert await _counts(pool, job_id) == expected
    after = await statuses_of(pool, account_id)
    assert after == model.statuses
    await _check_ledger(pool, job_id, before, after)


async def _counts(pool: asyncpg.Pool, job_id: int) -> Counter:
    rows = await pool.fetch(
        "select outcome, reason, count(*) as rows from results"
        " where job_id = $1 and cause = 'direct' group by 1, 2",
        job_id,
    )
    return Counter({(row["outcome"], row["reason"]): row["rows"] for row in rows})


async def _check_ledger(pool: asyncpg.Pool, job_id: int, before, after) -> None:
    """Check that applied results form an unbroken chain from each old status to the new one. The
    address must name its last change and that change's job.
    """
    rows = await pool.fetch(
        "select a.match_key, r.from_status, r.to_status, r.source_address_id, a.status,"
        " a.previous_status, a.status_job_id, a.propagated_from"
        " from results r join email_addresses a on a.id = r.address_id"
        " where r.job_id = $1 and r.outcome = 'applied' order by r.decided_at, r.cause",
        job_id,
    )
    present = {address: status for address, (status, _) in before.items()}
    last = {}
    for row in rows:
        assert row["from_status"] == present[row["match_key"]], dict(row)
        present[row["match_key"]] = row["to_status"]
        last[row["match_key"]] = row
    assert present == {address: status for address, (status, _) in after.items()}
    for row in last.values():
        assert row["status_job_id"] == job_id
        assert row["previous_status"] == row["from_status"]
        assert row["propagated_from"] == row["source_address_id"]
