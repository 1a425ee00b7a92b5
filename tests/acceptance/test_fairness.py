"""No job blocks another: small jobs run during a large one, and large jobs share the workers."""

import asyncio
import random

import asyncpg

from producers.control import cancel
from producers.submit import submit
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.acceptance.conftest import StartGroup
from tests.kit.factories import fill, fill_large_account, make_account, statuses_of
from tests.kit.job_requests import submit_account_job, wait_for_state
from tests.kit.model import RANK, SPREAD_RANK, Model
from tests.kit.submitting import EVIDENCE
from tests.kit.waiting import wait_until_async

LARGE = 16_000
ACCOUNTS = 10
CONTACTS_EACH = 3_000


async def submit_listed(
    pool: asyncpg.Pool, settings: Settings, account: str, action: str, contacts: list[int]
) -> int:
    """Submit a job over these contacts' first two fields, and return its id."""
    request = JobRequest(
        account=account,
        action=action,
        selection=Selection(contacts=tuple(contacts)),
        fields=("email1", "email2"),
        evidence=EVIDENCE if action == "opt_in" else None,
        requested_by="test",
    )
    return (await submit(pool, settings, request)).job_id


async def shares_done(pool: asyncpg.Pool, job_ids: list[int]) -> dict[int, float]:
    """Return which share of its pairs each planned job has done."""
    rows = await pool.fetch(
        "select j.id, coalesce(sum(c.pairs) filter (where c.state = 'done'), 0)::float8"
        " / j.selected as share"
        " from jobs j join job_chunks c on c.job_id = j.id"
        " where j.id = any($1::bigint[]) group by j.account_id, j.id",
        job_ids,
    )
    return {row["id"]: row["share"] for row in rows}


async def under_way(pool: asyncpg.Pool, job_id: int) -> None:
    """Wait until the job has finished a chunk."""

    async def some() -> bool:
        return (await shares_done(pool, [job_id])).get(job_id, 0) > 0

    await wait_until_async(some, deadline_seconds=60, what="the large job is under way")


async def test_small_jobs_do_not_wait_for_a_large_one(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """While a large job is running, a job of 100 contacts and an opt-out of one contact complete
    long before it. This holds even if the large job is an opt-out itself.
    """
    account_id = await make_account(pool, "crowded")
    await fill_large_account(pool, account_id, LARGE)
    rows = await pool.fetch("select id from contacts order by id desc limit 101")
    one, *hundred = [row["id"] for row in rows]
    start_group(processes=2, CHUNK_SIZE="20")
    for action in ("opt_in", "opt_out"):
        large = await submit_account_job(pool, settings, "crowded", action)
        await under_way(pool, large)
        small = (
            await submit_listed(pool, settings, "crowded", "opt_in", hundred),
            await submit_listed(pool, settings, "crowded", "opt_out", [one]),
        )
        for job in small:
            await wait_for_state(pool, job, "completed")
        assert (await shares_done(pool, [large]))[large] < 0.9
        await cancel(pool, settings, None, large)


async def test_large_jobs_of_ten_accounts_progress_equally(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """Ten equal jobs wait when the workers start. When one of them is half done, each other job has
    done at least a fifth as much. All of them complete.
    """
    names = [f"customer-{n}" for n in range(ACCOUNTS)]
    for name in names:
        await fill_large_account(pool, await make_account(pool, name), CONTACTS_EACH)
    # Submitted before there are workers: on a busy machine the first jobs could be half done when
    # the last is submitted.
    jobs = [await submit_account_job(pool, settings, name, "opt_in") for name in names]
    # Each lane gets one slice at a time, so a job may be ahead by as many slices as it has lanes.
    # With slices of a few chunks, a job is many times longer than that.
    start_group(processes=2, CHUNK_SIZE="12", SLICE_SECONDS="0.02")
    shares: dict[int, float] = {}

    async def one_is_half_done() -> bool:
        shares.update(await shares_done(pool, jobs))
        return max(shares.values(), default=0) >= 0.5

    await wait_until_async(one_is_half_done, deadline_seconds=90, what="one of them is half done")
    first = max(shares.values())
    assert all(shares.get(job, 0) >= first / 5 for job in jobs), shares
    for job in jobs:
        await wait_for_state(pool, job, "completed", deadline=90)


def make_tangled_contacts(draw: random.Random, contacts: int) -> tuple[dict, dict]:
    """Return contacts that share addresses in all ways, with statuses of all kinds."""
    addresses = [f"a{n}@example.com" for n in range(contacts * 2)]
    contacts = {
        n: {field: draw.choice(addresses) for field in draw.sample((1, 2, 3), draw.randint(1, 3))}
        for n in range(1, contacts + 1)
    }
    kinds = [(name, False) for name in RANK] + [(name, True) for name in SPREAD_RANK]
    kinds += [("non_marketable", False)] * len(kinds)
    return contacts, {address: draw.choice(kinds) for address in addresses}


async def test_concurrent_opt_in_and_opt_out_of_the_same_contacts(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """Two jobs run over the same contacts, in many small chunks and several lanes. Both complete,
    and each address ends as it would after either order.
    """
    start_group(processes=2, CHUNK_SIZE="5", JOB_CONCURRENCY="4", ROLE_ADDRESS_LIMIT="4")
    for round_no in range(5):
        contacts, statuses = make_tangled_contacts(random.Random(round_no), 150)
        # Contact ids are unique across accounts, so each round uses its own range.
        contacts = {round_no * 1000 + n: links for n, links in contacts.items()}
        account = f"tangled-{round_no}"
        account_id = await make_account(pool, account)
        await fill(pool, account_id, contacts, statuses)
        ends = []
        for order in (("opt_in", "opt_out"), ("opt_out", "opt_in")):
            model = Model(4, contacts, dict(statuses))
            for action in order:
                if action == "opt_in":
                    model.opt_in(list(contacts), [1, 2])
                else:
                    model.opt_out(list(contacts)[::2], [1, 2], "admin")
            ends.append(model.statuses)
        assert ends[0] == ends[1]
        jobs = await asyncio.gather(
            submit_account_job(pool, settings, account, "opt_in", "email1", "email2"),
            submit_listed(pool, settings, account, "opt_out", list(contacts)[::2]),
        )
        for job in jobs:
            await wait_for_state(pool, job, "completed")
        assert await statuses_of(pool, account_id) == ends[0]
