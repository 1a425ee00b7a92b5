"""Somebody comes between the reading of a chunk and its writing (decision 0011)."""

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
    "its own opt-out": f"update email_addresses set status = 'manual', {OTHER_JOB}"
    " where address = $1",
    "a spread to it": f"update email_addresses set status = 'admin', {OTHER_JOB}, propagated_from ="
    " (select id from email_addresses where address <> $1 limit 1) where address = $1",
    "a contact more": "update email_addresses set contact_count = contact_count + 1 where"
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
    """Have something done after each reading of a chunk; gives whether each was under locks."""
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


async def planned(
    pool: asyncpg.Pool, settings: Settings, action: str, contacts: list[int], *, chunk_size: int
) -> ChunkRunner:
    """Plan a job and return its runner, so that the test decides when each chunk is worked on."""
    params = {"kind": "admin"} if action == "opt_out" else {}
    job_id = await submit_job(pool, settings, "between", action, contacts, [1], params)
    async with pool.acquire() as connection:
        await plan_job(connection, await key_of(pool, job_id), chunk_size=chunk_size, max_lanes=1)
        job = await job_progress.get_job_to_work(connection, await key_of(pool, job_id))
    assert job is not None
    return ChunkRunner.for_job(job, shared_address_limit=LIMIT, worker="test")


async def one_chunk(pool: asyncpg.Pool, runner: ChunkRunner) -> ChunkResult | None:
    """Work on the next chunk; None if there is none."""
    async with pool.acquire() as connection:
        return await runner.run_next(connection)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("action", ["opt_in", "opt_out"])
async def test_a_change_between_reading_and_writing_begins_the_chunk_again(
    pool: asyncpg.Pool, settings: Settings, account_id: int, reads, action: str, change: str
) -> None:
    """Promise 2: an address that somebody changes, or comes to hold, after a chunk has read it is
    read again, under a lock, and decided as it is then; nothing is written twice.
    """
    runner = await planned(pool, settings, action, [1], chunk_size=10)

    async def meanwhile(times_read: int, _chunk) -> None:
        if times_read == 1:
            await pool.execute(change, HERS)

    under_locks = reads(meanwhile)
    done = await one_chunk(pool, runner)
    assert done is not None
    assert under_locks == [False, True]
    rows = await pool.fetch("select from_status from results where cause = 'direct'")
    assert len(rows) == 1
    assert await pool.fetchval(
        "select count(*) = 0 from results r join email_addresses a on a.id = r.address_id"
        " where r.outcome = 'applied' and a.status is distinct from r.to_status"
    )
    status, spread = (await statuses_of(pool, account_id))[HERS]
    if action == "opt_out":
        assert status in {"admin", "manual"}
        assert not spread
    elif "contact_count" in change:
        assert status == "single_opt_in"
    else:
        assert status in {"admin", "manual"}


async def test_a_lock_alone_does_not_begin_a_chunk_again(
    pool: asyncpg.Pool, settings: Settings, account_id: int, reads
) -> None:
    """Who has locked an address meanwhile and left it as it is makes nobody begin again."""
    runner = await planned(pool, settings, "opt_in", [1], chunk_size=10)

    async def meanwhile(_times_read: int, _chunk) -> None:
        await pool.execute("select from email_addresses for update")

    under_locks = reads(meanwhile)
    assert await one_chunk(pool, runner) is not None
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
async def test_two_chunks_that_reach_one_address_do_not_deadlock(
    pool: asyncpg.Pool,
    settings: Settings,
    account_id: int,
    reads,
    contacts: dict[int, dict[int, str]],
    first_is_locked: bool,
) -> None:
    """Two opt-outs in two chunks at the same time reach the same address, of a third contact who
    holds both, or of one of the two: one of them has the credit, the other begins again if need be,
    and Postgres has to end neither.
    """
    await fill(pool, account_id, contacts, dict.fromkeys((*BOTH, THIRD), ("non_marketable", False)))
    runner = await planned(pool, settings, "opt_out", [11, 12], chunk_size=1)
    both_have_read = asyncio.Barrier(2)

    async def meanwhile(times_read: int, chunk) -> None:
        if times_read == 1 and first_is_locked:
            # So that it begins again, under locks, beside one that has none.
            await pool.execute(CHANGES["a contact more"], BOTH[chunk.chunk_no - 1])
        elif times_read <= 2 + first_is_locked and not both_have_read.broken:
            try:
                async with asyncio.timeout(0.5):
                    await both_have_read.wait()
            except (TimeoutError, asyncio.BrokenBarrierError):
                await both_have_read.abort()

    reads(meanwhile)
    # One that Postgres ends, because of a deadlock, raises.
    done = await asyncio.gather(one_chunk(pool, runner), one_chunk(pool, runner))
    assert None not in done
    now = await statuses_of(pool, account_id)
    assert [now[address] for address in (*BOTH, THIRD)] == [
        ("admin", False),
        ("admin", False),
        ("admin", True),
    ]
    reached = "select count(*) from results where cause = 'propagated' and address_id ="
    assert (
        await pool.fetchval(f"{reached} (select id from email_addresses where address = $1)", THIRD)
        == 1
    )


async def test_an_address_that_becomes_a_role_address_meanwhile_still_reaches_its_contact(
    pool: asyncpg.Pool, settings: Settings, account_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: an opted-out address of ten contacts, which an eleventh comes to hold between two
    readings of a chunk, reaches at least the other address of the contact that was selected.
    """
    await fill(
        pool,
        account_id,
        {21: {1: BOTH[0], 2: THIRD}, **{n: {1: BOTH[0]} for n in range(22, 22 + LIMIT - 1)}},
        {BOTH[0]: ("manual", False), THIRD: ("non_marketable", False)},
    )
    runner = await planned(pool, settings, "opt_out", [21], chunk_size=10)
    read_chunk = chunk_runner.chunk_addresses.read_links_and_addresses

    async def read_then_link(*arguments):
        read = await read_chunk(*arguments)
        await pool.execute(CHANGES["a contact more"], BOTH[0])
        return read

    monkeypatch.setattr(chunk_runner.chunk_addresses, "read_links_and_addresses", read_then_link)
    assert await one_chunk(pool, runner) is not None
    assert (await statuses_of(pool, account_id))[THIRD] == ("admin", True)


async def test_who_links_contacts_again_and_again_does_not_keep_a_chunk_going_for_ever(
    pool: asyncpg.Pool, settings: Settings, account_id: int, reads
) -> None:
    """A chunk between whose reading and writing somebody always comes is given back after a while,
    with no attempt counted, and nothing of it is written.
    """
    runner = await planned(pool, settings, "opt_in", [1], chunk_size=10)

    async def meanwhile(_times_read: int, _chunk) -> None:
        raise ConcurrentLink("somebody was linked")

    seen = reads(meanwhile)
    with pytest.raises(ChunkFailed) as caught:
        await one_chunk(pool, runner)
    assert not caught.value.is_chunk_fault
    assert len(seen) == chunk_runner.MAX_TRIES
    assert await pool.fetchval("select count(*) from results") == 0


async def test_a_result_that_another_chunk_has_come_to_write_begins_the_chunk_again(
    pool: asyncpg.Pool, settings: Settings, account_id: int, reads
) -> None:
    """A contact is linked after a chunk has read, and through it another chunk of the job reaches
    what this one reaches: this one begins again, with no attempt counted, and writes the rest.
    """
    await fill(
        pool,
        account_id,
        {41: {1: BOTH[0], 2: THIRD}, 42: {2: "other@example.com"}},
        dict.fromkeys((BOTH[0], THIRD, "other@example.com"), ("non_marketable", False)),
    )
    runner = await planned(pool, settings, "opt_out", [41, 42], chunk_size=1)

    async def meanwhile(times_read: int, chunk) -> None:
        if times_read == 1:
            assert chunk.chunk_no == 1
            await pool.execute(
                "insert into contact_emails (account_id, contact_id, field, address_id)"
                " select account_id, 42, 1, id from email_addresses where address = $1",
                BOTH[0],
            )
            await pool.execute(CHANGES["a contact more"], BOTH[0])
            assert await one_chunk(pool, runner) is not None

    under_locks = reads(meanwhile)
    assert await one_chunk(pool, runner) is not None
    assert under_locks == [False, False, True]
    rows = await pool.fetch(
        "select r.chunk_no, a.address from results r join email_addresses a on a.id = r.address_id"
        " where r.cause = 'propagated' order by a.address"
    )
    assert [tuple(row) for row in rows] == [(2, "other@example.com"), (2, THIRD)]


async def test_a_contact_that_is_made_meanwhile_is_not_taken_for_one_without_addresses(
    pool: asyncpg.Pool, settings: Settings, account_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listed id becomes a contact between two statements of a chunk: the chunk begins again, and
    its address is opted out.
    """
    runner = await planned(pool, settings, "opt_out", [1, 3], chunk_size=10)
    read_chunk = chunk_runner.chunk_addresses.read_links_and_addresses
    made = False

    async def read_then_make(*arguments):
        nonlocal made
        read = await read_chunk(*arguments)
        if not made:
            made = True
            await fill(
                pool,
                account_id,
                {3: {1: "new@example.com"}},
                {"new@example.com": ("non_marketable", False)},
            )
        return read

    monkeypatch.setattr(chunk_runner.chunk_addresses, "read_links_and_addresses", read_then_make)
    done = await one_chunk(pool, runner)
    assert done is not None
    assert done.counts.applied == 2
    assert done.counts.empty == 0
