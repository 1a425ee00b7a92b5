"""Other transactions commit between the reads and the writes of a chunk (decision 0011)."""

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from db import job_progress
from db.chunks import ChunkResult
from engine import chunk_runner
from engine.chunk_runner import ChunkFailed, ChunkRunner
from engine.planner import plan_job
from engine.sources.contacts import ContactSource
from runtime.settings import Settings
from schemas.errors import ConcurrentLink
from tests.kit.factories import fill, key_of, make_account, statuses_of
from tests.kit.submitting import submit_job

LIMIT = 10
HERS, OURS, HIS = "hers@example.com", "ours@example.com", "his@example.com"
THIRD = "third@example.com"
FAMILY = {1: {1: HERS, 2: OURS}, 2: {1: HIS, 2: OURS}}

OTHER_JOB = "status_job_id = 99, status_changed_at = clock_timestamp()"
CHANGES = {
    "an opt-out in its own right": f"update email_addresses set status = 'manual', {OTHER_JOB}"
    " where address = $1",
    "propagation": f"update email_addresses set status = 'admin', {OTHER_JOB}, propagated_from ="
    " (select id from email_addresses where address <> $1 limit 1) where address = $1",
    "one more contact": "update email_addresses set contact_count = contact_count + 1 where"
    " address = $1",
}


@pytest.fixture
async def account_id(pool: asyncpg.Pool) -> int:
    """Create an account whose contacts share the family address."""
    account_id = await make_account(pool, "between")
    await fill(
        pool, account_id, FAMILY, dict.fromkeys((HERS, OURS, HIS), ("non_marketable", False))
    )
    return account_id


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bool]]:
    """Return a function that runs a callback after each read of a chunk. It collects whether each
    read took locks.
    """
    read = ContactSource.read

    def after_reading(do) -> list[bool]:
        seen: list[bool] = []

        async def read_and_interfere(source, reader, chunk):
            snapshot = await read(source, reader, chunk)
            seen.append(reader.lock_all)
            await do(len(seen), chunk)
            return snapshot

        monkeypatch.setattr(ContactSource, "read", read_and_interfere)
        return seen

    return after_reading


async def plan_runner(
    pool: asyncpg.Pool, settings: Settings, action: str, contacts: list[int], *, chunk_size: int
) -> ChunkRunner:
    """Plan a job and return its runner, so that the test decides when each chunk is done."""
    params = {"kind": "admin"} if action == "opt_out" else {}
    job_id = await submit_job(pool, settings, "between", action, contacts, [1], params)
    async with pool.acquire() as connection:
        await plan_job(connection, await key_of(pool, job_id), chunk_size=chunk_size, max_lanes=1)
        job = await job_progress.get_job_to_work(connection, await key_of(pool, job_id))
    assert job is not None
    return ChunkRunner.for_job(job, role_address_limit=LIMIT, worker="test")


async def run_one_chunk(pool: asyncpg.Pool, runner: ChunkRunner) -> ChunkResult | None:
    """Do the next chunk; return None if there is none."""
    async with pool.acquire() as connection:
        return await runner.run_next(connection)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("action", ["opt_in", "opt_out"])
async def test_a_change_between_read_and_write_restarts_the_chunk(
    pool: asyncpg.Pool, settings: Settings, account_id: int, reads, action: str, change: str
) -> None:
    """Promise 2: an address changes, or gains a contact, after a chunk has read it. It is read
    again under a lock and decided as it is then. Nothing is written twice.
    """
    runner = await plan_runner(pool, settings, action, [1], chunk_size=10)

    async def interfere(times_read: int, _chunk) -> None:
        if times_read == 1:
            await pool.execute(change, HERS)

    under_locks = reads(interfere)
    done = await run_one_chunk(pool, runner)
    assert done is not None
    assert under_locks == [False, True]
    rows = await pool.fetch("select from_status from results where cause = 'direct'")
    assert len(rows) == 1
    assert await pool.fetchval(
        "select count(*) = 0 from results r join email_addresses a on a.id = r.address_id"
        " where r.outcome = 'applied' and a.status is distinct from r.to_status"
    )
    status, is_propagated = (await statuses_of(pool, account_id))[HERS]
    if action == "opt_out":
        assert status in {"admin", "manual"}
        assert not is_propagated
    elif "contact_count" in change:
        assert status == "single_opt_in"
    else:
        assert status in {"admin", "manual"}


async def test_a_lock_alone_does_not_restart_a_chunk(
    pool: asyncpg.Pool, settings: Settings, account_id: int, reads
) -> None:
    """If an address was locked in the meantime but not changed, the chunk is not started again."""
    runner = await plan_runner(pool, settings, "opt_in", [1], chunk_size=10)

    async def interfere(_times_read: int, _chunk) -> None:
        await pool.execute("select from email_addresses for update")

    under_locks = reads(interfere)
    assert await run_one_chunk(pool, runner) is not None
    assert under_locks == [False]


BOTH = ("one@example.com", "two@example.com")
REACHED_TWICE = {
    "on a contact of neither": {
        11: {1: BOTH[0]},
        12: {1: BOTH[1]},
        13: {1: THIRD, 2: BOTH[0], 3: BOTH[1]},
    },
    "on a contact of one": {11: {1: BOTH[0], 2: BOTH[1], 3: THIRD}, 12: {1: BOTH[1]}},
}


@pytest.mark.parametrize("contacts", REACHED_TWICE.values(), ids=REACHED_TWICE)
@pytest.mark.parametrize("first_is_locked", [False, True])
async def test_two_chunks_that_propagate_to_one_address_do_not_deadlock(
    pool: asyncpg.Pool,
    settings: Settings,
    account_id: int,
    reads,
    contacts: dict[int, dict[int, str]],
    first_is_locked: bool,
) -> None:
    """Two concurrent chunks propagate opt-outs to one address, through a third contact or through
    one of their own. One of them gets the result and the other starts again if necessary. There is
    no deadlock.
    """
    await fill(pool, account_id, contacts, dict.fromkeys((*BOTH, THIRD), ("non_marketable", False)))
    runner = await plan_runner(pool, settings, "opt_out", [11, 12], chunk_size=1)
    both_have_read = asyncio.Barrier(2)

    async def interfere(times_read: int, chunk) -> None:
        if times_read == 1 and first_is_locked:
            # Make this chunk start again under locks, while the other one has none.
            await pool.execute(CHANGES["one more contact"], BOTH[chunk.chunk_no - 1])
        elif times_read <= 2 + first_is_locked and not both_have_read.broken:
            try:
                async with asyncio.timeout(0.5):
                    await both_have_read.wait()
            except (TimeoutError, asyncio.BrokenBarrierError):
                await both_have_read.abort()

    reads(interfere)
    # If Postgres ended one of them because of a deadlock, it would raise.
    done = await asyncio.gather(run_one_chunk(pool, runner), run_one_chunk(pool, runner))
    assert None not in done
    now = await statuses_of(pool, account_id)
    assert [now[address] for address in (*BOTH, THIRD)] == [
        ("admin", False),
        ("admin", False),
        ("admin", True),
    ]
    count_results = "select count(*) from results where cause = 'propagated' and address_id ="
    assert (
        await pool.fetchval(
            f"{count_results} (select id from email_addresses where address = $1)", THIRD
        )
        == 1
    )


async def test_an_address_that_becomes_a_role_address_still_propagates(
    pool: asyncpg.Pool, settings: Settings, account_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: ten contacts hold an opted-out address, and an eleventh is linked between two
    reads of a chunk. The opt-out is still propagated to the other address of the selected contact.
    """
    await fill(
        pool,
        account_id,
        {21: {1: BOTH[0], 2: THIRD}, **{n: {1: BOTH[0]} for n in range(22, 22 + LIMIT - 1)}},
        {BOTH[0]: ("manual", False), THIRD: ("non_marketable", False)},
    )
    runner = await plan_runner(pool, settings, "opt_out", [21], chunk_size=10)
    read_chunk = chunk_runner.chunk_addresses.read_links_and_addresses

    async def read_then_link(*arguments):
        read = await read_chunk(*arguments)
        await pool.execute(CHANGES["one more contact"], BOTH[0])
        return read

    monkeypatch.setattr(chunk_runner.chunk_addresses, "read_links_and_addresses", read_then_link)
    assert await run_one_chunk(pool, runner) is not None
    assert (await statuses_of(pool, account_id))[THIRD] == ("admin", True)


async def test_constant_linking_does_not_keep_a_chunk_busy(
    pool: asyncpg.Pool, settings: Settings, account_id: int, reads
) -> None:
    """If links change between every read and write, the chunk is released after a limited number of
    tries. No attempt is counted, and nothing is written.
    """
    runner = await plan_runner(pool, settings, "opt_in", [1], chunk_size=10)

    async def interfere(_times_read: int, _chunk) -> None:
        raise ConcurrentLink("somebody was linked")

    seen = reads(interfere)
    with pytest.raises(ChunkFailed) as caught:
        await run_one_chunk(pool, runner)
    assert not caught.value.is_chunk_fault
    assert len(seen) == chunk_runner.MAX_TRIES
    assert await pool.fetchval("select count(*) from results") == 0


async def test_a_result_written_by_another_chunk_restarts_the_chunk(
    pool: asyncpg.Pool, settings: Settings, account_id: int, reads
) -> None:
    """After a chunk has read, a contact is linked. Through it another chunk of the job propagates
    to the same addresses. The first chunk starts again, counts no attempt and writes the rest.
    """
    await fill(
        pool,
        account_id,
        {41: {1: BOTH[0], 2: THIRD}, 42: {2: "other@example.com"}},
        dict.fromkeys((BOTH[0], THIRD, "other@example.com"), ("non_marketable", False)),
    )
    runner = await plan_runner(pool, settings, "opt_out", [41, 42], chunk_size=1)

    async def interfere(times_read: int, chunk) -> None:
        if times_read == 1:
            assert chunk.chunk_no == 1
            await pool.execute(
                "insert into contact_emails (account_id, contact_id, field, address_id)"
                " select account_id, 42, 1, id from email_addresses where address = $1",
                BOTH[0],
            )
            await pool.execute(CHANGES["one more contact"], BOTH[0])
            assert await run_one_chunk(pool, runner) is not None

    under_locks = reads(interfere)
    assert await run_one_chunk(pool, runner) is not None
    assert under_locks == [False, False, True]
    rows = await pool.fetch(
        "select r.chunk_no, a.address from results r join email_addresses a on a.id = r.address_id"
        " where r.cause = 'propagated' order by a.address"
    )
    assert [tuple(row) for row in rows] == [(2, "other@example.com"), (2, THIRD)]


async def test_a_contact_created_concurrently_is_read_with_its_addresses(
    pool: asyncpg.Pool, settings: Settings, account_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listed id becomes a contact between two statements of a chunk. The chunk starts again, and
    the contact's address is opted out.
    """
    runner = await plan_runner(pool, settings, "opt_out", [1, 3], chunk_size=10)
    read_chunk = chunk_runner.chunk_addresses.read_links_and_addresses
    is_created = False

    async def read_then_make(*arguments):
        nonlocal is_created
        read = await read_chunk(*arguments)
        if not is_created:
            is_created = True
            await fill(
                pool,
                account_id,
                {3: {1: "new@example.com"}},
                {"new@example.com": ("non_marketable", False)},
            )
        return read

    monkeypatch.setattr(chunk_runner.chunk_addresses, "read_links_and_addresses", read_then_make)
    done = await run_one_chunk(pool, runner)
    assert done is not None
    assert done.counts.applied == 2
    assert done.counts.empty == 0
