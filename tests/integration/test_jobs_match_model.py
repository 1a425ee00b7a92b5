"""Whatever the lists, jobs, chunk sizes and parallelism: Sluice does what the simple model does.

The chunks run in this process, on a real Postgres, several at once; `tests/acceptance` has the
same with worker processes.
"""

import asyncio
from collections import Counter
from itertools import count

import asyncpg
from hypothesis import HealthCheck, given
from hypothesis import example as by_hand
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from actions.registry import action_named
from db import progress
from db.pool import open_pool
from schemas.outcomes import JobState
from tests.model import RANK, SPREAD_RANK, Model
from tests.worlds import fill, make_account, statuses_of
from workers.chunk_runner import ChunkRunner
from workers.planner import plan

LIMIT = 2
ADDRESSES = [f"a{n}@example.com" for n in range(7)]
KINDS = ["admin", "manual", "list_unsubscribe", "feedback", "spam"]

held = st.dictionaries(st.integers(1, 3), st.sampled_from(ADDRESSES), max_size=3)
worlds = st.lists(held, min_size=1, max_size=7)
statuses = st.one_of(
    st.just(("non_marketable", False)),
    st.tuples(st.sampled_from(sorted(RANK)), st.just(False)),
    st.tuples(st.sampled_from(sorted(SPREAD_RANK)), st.just(True)),
)
fields = st.sets(st.integers(1, 3), min_size=1).map(sorted)
picks = st.sets(st.integers(0, 8), max_size=8).map(sorted)
jobs = st.lists(
    st.one_of(
        st.tuples(st.just("opt_in"), picks, fields, st.just("admin")),
        st.tuples(st.just("opt_out"), picks, fields, st.sampled_from(KINDS)),
    ),
    min_size=1,
    max_size=4,
)
_numbers = count(1)

# Lists that drifted apart before they came here: the second address is opted out, the first not.
DRIFTED = [("non_marketable", False), ("manual", False), *[("non_marketable", False)] * 5]
BESIDE_ON_ANOTHER_CONTACT = [{1: ADDRESSES[0]}, {1: ADDRESSES[0], 2: ADDRESSES[1]}]
BESIDE_IN_ANOTHER_FIELD = [{1: ADDRESSES[0], 3: ADDRESSES[1]}]
BESIDE_A_ROLE = [{1: ADDRESSES[0], 2: ADDRESSES[1]}, {1: ADDRESSES[1]}, {1: ADDRESSES[1]}]


async def store_job(
    pool: asyncpg.Pool, account_id: int, action: str, contacts: list[int], fields: list[int], params
) -> int:
    job_id = await pool.fetchval(
        "insert into jobs (account_id, action, fields, params, selection, requested_by,"
        " request_hash, correlation_id) values ($1, $2, $3, $4, $5, 'test', '', '') returning id",
        account_id,
        action,
        fields,
        params,
        {"contacts": len(contacts)},
    )
    await pool.execute("insert into job_contacts values ($1, 1, $2)", job_id, contacts)
    return job_id


async def run_job(pool: asyncpg.Pool, job_id: int, *, chunk_size: int, parallel: int) -> None:
    async with pool.acquire() as connection:
        await plan(connection, job_id, chunk_size=chunk_size, lanes=1)
        job = await progress.job_to_work(connection, job_id)
    action = action_named(job.action)
    runner = ChunkRunner(
        job=job,
        action=action,
        params=action.params.model_validate(job.params),
        shared_address_limit=LIMIT,
        worker="test",
    )

    async def lane() -> None:
        async with pool.acquire() as connection:
            while await runner.run_next(connection):
                pass

    await asyncio.gather(*(lane() for _ in range(parallel)))
    async with pool.acquire() as connection:
        assert await progress.complete(connection, job_id) is not None


async def counts_of(pool: asyncpg.Pool, job_id: int) -> Counter:
    """Direct outcomes by reason, from the result rows; what has no row is empty."""
    counts = Counter()
    for row in await pool.fetch(
        "select outcome, reason, count(*) as rows from results"
        " where job_id = $1 and cause = 'direct' group by 1, 2",
        job_id,
    ):
        counts[row["outcome"], row["reason"]] = row["rows"]
    job = await pool.fetchrow("select * from jobs where id = $1", job_id)
    assert job["state"] == JobState.COMPLETED
    for outcome in ("applied", "unchanged", "rejected"):
        assert job[outcome] == sum(n for (name, _), n in counts.items() if name == outcome)
    assert job["selected"] - counts.total() == job["empty"]
    if job["empty"]:
        counts["empty", None] = job["empty"]
    propagated = await pool.fetchval(
        "select count(*) from results where job_id = $1 and cause = 'propagated'", job_id
    )
    assert job["propagated"] == propagated
    return counts


def check_ledger(rows: list[asyncpg.Record], before, after) -> None:
    """Promise 6: each address's applied rows lead unbroken from what it was to what it is."""
    present = dict(before)
    for row in rows:
        key = row["match_key"]
        assert row["from_status"] == present[key], dict(row)
        present[key] = row["to_status"]
        if row["cause"] == "propagated":
            assert row["source"] is not None
    assert present == after


async def ledger(pool: asyncpg.Pool, job_id: int) -> list[asyncpg.Record]:
    return await pool.fetch(
        "select a.match_key, r.from_status, r.to_status, r.cause, r.source_address_id as source"
        " from results r join email_addresses a on a.id = r.address_id"
        " where r.job_id = $1 and r.outcome = 'applied'"
        " order by r.decided_at, r.cause, r.contact_id",
        job_id,
    )


async def test_jobs_end_as_the_model_says(database_url: str):
    """Promises 1, 2, 3 and 6: statuses, counts by reason and ledgers equal the model's."""
    async with await open_pool(database_url, size=4) as pool:

        @hypothesis_settings(
            max_examples=150, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(
            worlds,
            st.lists(statuses, min_size=7, max_size=7),
            jobs,
            st.integers(1, 4),
            st.integers(1, 3),
        )
        @by_hand(BESIDE_ON_ANOTHER_CONTACT, DRIFTED, [("opt_in", [0], [1], "admin")], 1, 1)
        @by_hand(BESIDE_IN_ANOTHER_FIELD, DRIFTED, [("opt_in", [0], [1], "admin")], 1, 1)
        @by_hand(BESIDE_A_ROLE, DRIFTED, [("opt_in", [0], [1], "admin")], 2, 1)
        def check(world, present, todo, chunk_size, parallel):
            loop.run(example(pool, world, present, todo, chunk_size, parallel))

        loop = _Loop(asyncio.get_running_loop())
        await asyncio.to_thread(check)


class _Loop:
    """Lets hypothesis, which is not asynchronous, run its examples on the test's own loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


async def example(pool, world, present, todo, chunk_size, parallel) -> None:
    account_id = await make_account(pool, f"model-{next(_numbers)}")
    base = account_id * 100
    contacts = {base + n: dict(links) for n, links in enumerate(world)}
    model = Model(LIMIT, contacts, dict(zip(ADDRESSES, present, strict=True)))
    await fill(pool, account_id, model.contacts, model.statuses)
    for action, picked, chosen, kind in todo:
        ids = [base + n for n in picked]
        was_out = {a for a, s in model.statuses.items() if model._rank(a) >= 3}
        before = await statuses_of(pool, account_id)
        params = {"kind": kind} if action == "opt_out" else {}
        job_id = await store_job(pool, account_id, action, ids, chosen, params)
        await run_job(pool, job_id, chunk_size=chunk_size, parallel=parallel)
        if action == "opt_out":
            expected = model.opt_out(ids, chosen, kind)
        else:
            expected = model.opt_in(ids, chosen)
        after = await statuses_of(pool, account_id)
        assert await counts_of(pool, job_id) == expected
        assert after == model.statuses
        assert all(RANK[after[a][0]] >= 5 for a in was_out)
        check_ledger(
            await ledger(pool, job_id),
            {a: s for a, (s, _) in before.items()},
            {a: s for a, (s, _) in after.items()},
        )
