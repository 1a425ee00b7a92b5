"""A recipient's opt-out is applied before the answer, with the outcome of a bulk job."""

import asyncio
import json

import asyncpg
import pytest
from hypothesis import strategies as st
from structlog.testing import capture_logs

from db.errors import TRANSIENT_ERRORS
from db.pool import open_pool
from producers import control
from producers.immediate_opt_out import OptOutReceipt, opt_out_immediately
from producers.invalid_request import parse_request
from producers.submit import submit
from runtime.settings import Settings
from schemas.errors import IdempotencyConflict, InvalidRequest, NotFound
from schemas.requests import JobRequest
from tests.kit.factories import fill, make_account, statuses_of
from tests.kit.in_process import InProcessRunner
from tests.kit.model_comparison import (
    LIMIT,
    ModelComparison,
    job_sequences,
    link_lists,
    read_counts,
    selecting_jobs,
    start_statuses,
)
from tests.kit.property_examples import check_property
from tests.kit.sample_account import REFUSED_BY_POSTGRES, AccountDriver
from tests.kit.submitting import EVIDENCE, selection_arguments
from tests.kit.waiting import wait_until_async, wait_until_lock_contended

MARKETABLE = ("single_opt_in", "double_opt_in", "confirmed", "unengaged_marketable")
MARKETABLE_ONE = ("single_opt_in", False)


def opt_out(contacts=(1,), **changes) -> JobRequest:
    """Return a recipient's opt-out request with these changes."""
    return parse_request(
        {
            "action": "opt_out",
            "account": "shop",
            "selection": {"contacts": contacts},
            "params": {"kind": "manual"},
            "requested_by": "preference centre",
            **changes,
        }
    )


async def count_written_rows(pool: asyncpg.Pool) -> tuple[int, ...]:
    """Count the rows of everything that an opt-out writes."""
    return tuple(
        await pool.fetchrow(
            "select (select count(*) from jobs), (select count(*) from job_states),"
            " (select count(*) from job_chunks), (select count(*) from results),"
            " (select count(*) from email_addresses where status = 'manual')"
        )
    )


NO_ROWS = (0, 0, 0, 0, 0)


class ImmediateRunner:
    """Apply opt-outs immediately, and run all other jobs in process."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, parallel: int) -> None:
        self.runner = InProcessRunner(pool, settings, chunk_size=2, parallel=parallel)
        self.pool = pool
        self.settings = settings.model_copy(update={"role_address_limit": LIMIT})

    async def __call__(self, account, action, what, fields, params) -> int:
        """Apply an opt-out immediately, or run another job in process; return the job's id."""
        if action != "opt_out" or not what:
            return await self.runner(account, action, what, fields, params)
        request = opt_out(account=account, params=params, **selection_arguments(what, fields))
        answer = await opt_out_immediately(self.pool, self.settings, request)
        assert (answer.created, answer.applied) == (True, True)
        return answer.job_id


async def test_immediate_opt_outs_agree_with_the_model(database_url: str, settings: Settings):
    """Promises 1, 2, 3 and 6: statuses, counts by reason and ledgers equal the model's. This holds
    for imported lists and for lists whose statuses had drifted apart.
    """
    async with await open_pool(database_url, size=4) as pool:

        async def check_imported(steps, parallel) -> None:
            comparison = ModelComparison(pool, ImmediateRunner(pool, settings, parallel))
            await comparison.begin()
            for step in steps:
                await comparison.apply(*step)
                assert not comparison.model.at_rest_violations()

        async def check_drifted(contacts, present, steps) -> None:
            comparison = ModelComparison(pool, ImmediateRunner(pool, settings, 1))
            await comparison.begin(contacts, present)
            for step in steps:
                await comparison.apply(*step)

        await check_property(check_imported, job_sequences, st.integers(1, 3), max_examples=60)
        await check_property(
            check_drifted, link_lists, start_statuses, selecting_jobs, max_examples=60
        )


async def test_acknowledged_means_committed(
    pool: asyncpg.Pool, settings: Settings, shop: int, database_url: str
):
    """Promise 2: once an opt-out is answered, another connection sees the address and its siblings
    opted out, each with its result. The job is completed, with its counts and states.
    """
    answer = await opt_out_immediately(pool, settings, opt_out(fields=["email1", "email3"]))
    other = await asyncpg.connect(database_url)
    try:
        statuses = await statuses_of(other, shop)
        job = await other.fetchrow("select * from jobs where id = $1", answer.job_id)
        chunk = await other.fetchrow("select * from job_chunks where job_id = $1", answer.job_id)
        states = await other.fetch("select state from job_states order by entered_at")
        rows = await other.fetch("select * from results order by cause")
    finally:
        await other.close()
    assert answer == (answer.job_id, True, True, 1, "manual")
    assert statuses == {
        "ann@example.com": ("manual", False),
        "family@example.com": ("manual", True),
        "bob@example.com": ("single_opt_in", False),
        "eve@example.com": ("non_marketable", False),
    }
    assert await read_counts(pool, answer.job_id) == {("applied", None): 1, ("empty", None): 1}
    assert (job["state"], job["selected"], job["propagated"]) == ("completed", 2, 1)
    assert json.loads(job["selection"]) == {"contacts": 1}
    assert job["created_at"] <= job["planned_at"] <= job["started_at"] <= job["finished_at"]
    assert (chunk["state"], chunk["item_ids"], chunk["pairs"]) == ("done", [1], 2)
    assert [state["state"] for state in states] == ["running", "completed"]
    assert [(row["cause"], row["from_status"], row["to_status"]) for row in rows] == [
        ("direct", "single_opt_in", "manual"),
        ("propagated", "single_opt_in", "manual"),
    ]
    assert {row["chunk_no"] for row in rows} == {chunk["chunk_no"]}


async def test_the_same_key_gives_the_same_job(pool: asyncpg.Pool, settings: Settings, shop: int):
    """A repeated request changes nothing, whether the first one was immediate or a bulk job. The
    answer says whether the job is done.
    """
    first = await opt_out_immediately(pool, settings, opt_out(idempotency_key="click"))
    before = await count_written_rows(pool)
    assert await opt_out_immediately(
        pool, settings, opt_out(idempotency_key="click")
    ) == OptOutReceipt(first.job_id, created=False, applied=True)
    assert await count_written_rows(pool) == before
    with pytest.raises(IdempotencyConflict, match=f"'click'.*job {first.job_id}"):
        await opt_out_immediately(pool, settings, opt_out([2], idempotency_key="click"))
    waiting = await submit(pool, settings, opt_out([3], idempotency_key="bulk"))
    assert await opt_out_immediately(
        pool, settings, opt_out([3], idempotency_key="bulk")
    ) == OptOutReceipt(waiting.job_id, created=False, applied=False)


async def test_concurrent_requests_with_one_key_make_one_job(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """Of concurrent requests with one key, exactly one creates the job. Every answer says that it
    is applied.
    """
    answers = await asyncio.gather(
        *(opt_out_immediately(pool, settings, opt_out(idempotency_key="click")) for _ in range(5))
    )
    assert len({answer.job_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert all(answer.applied for answer in answers)
    assert (await count_written_rows(pool))[:3] == (1, 2, 1)


async def test_concurrent_opt_outs_of_the_same_contacts_succeed(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """Concurrent opt-outs of contacts that share addresses wait for each other, and each is
    applied.
    """
    answers = await asyncio.gather(
        *(
            opt_out_immediately(pool, settings, opt_out([1 + n % 3], fields=["email1"]))
            for n in range(30)
        )
    )
    assert all(answer.created and answer.applied for answer in answers)
    assert {status for status, _ in (await statuses_of(pool, shop)).values()} == {"manual"}


async def test_a_foreign_contact_is_not_found(pool: asyncpg.Pool, settings: Settings, shop: int):
    """A contact of another account is rejected like one that does not exist, and is not changed."""
    await make_account(pool, "other")
    answer = await opt_out_immediately(pool, settings, opt_out([1, 404], account="other"))
    assert await read_counts(pool, answer.job_id) == {("rejected", "contact_not_found"): 2}
    assert {status for status, _ in (await statuses_of(pool, shop)).values()} == {
        "single_opt_in",
        "non_marketable",
    }


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"action": "opt_in", "params": {}, "evidence": EVIDENCE},
            InvalidRequest,
            "is not an opt-out",
        ),
        ({"selection": {"all": True}}, InvalidRequest, "only a list of contact ids"),
        ({"selection": {"contacts": [1], "tag": "vip"}}, InvalidRequest, "only a list"),
        ({"selection": {"contacts": [1, 2, 3]}}, InvalidRequest, r"lists 3 contacts.*at most 2"),
        ({"account": "nobody"}, NotFound, "There are: default, shop"),
        ({"account": "nobody", "idempotency_key": "k"}, NotFound, "There are: default, shop"),
        ({"params": {"kind": "bounce"}}, InvalidRequest, "list_unsubscribe"),
    ],
)
async def test_an_invalid_request_stores_nothing(
    pool: asyncpg.Pool, settings: Settings, shop: int, changes, error, message
):
    """A request that cannot be applied immediately raises an error that says why, and no row is
    stored.
    """
    small_chunks = settings.model_copy(update={"chunk_size": 2})
    with pytest.raises(error, match=f"(?s){message}"):
        await opt_out_immediately(pool, small_chunks, opt_out(**changes))
    assert await count_written_rows(pool) == NO_ROWS


async def test_an_immediate_opt_out_logs_each_step(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """After the commit, an immediate opt-out logs the events of any job, from submitted to
    completed.
    """
    with capture_logs() as lines:
        answer = await opt_out_immediately(pool, settings, opt_out(correlation_id="c-1"))
    assert [line["event"] for line in lines] == [
        "job.submitted",
        "opt_out.received",
        "chunk.processed",
        "job.completed",
    ]
    assert {line["job"] for line in lines} == {answer.job_id}
    assert "example.com" not in str(lines)


async def test_an_opt_out_that_fails_is_kept_for_the_workers(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """If a write fails, the job is stored for the workers and the answer says that it is not
    applied yet. It is applied once the cause is gone; the same key does not store it twice.
    """
    await pool.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'this one never works'; end $$"
    )
    await pool.execute(
        "create trigger poison before update on email_addresses for each row"
        " when (new.match_key = 'family@example.com') execute function refuse()"
    )
    request = opt_out(idempotency_key="click", correlation_id="c-1")
    with capture_logs() as lines:
        first = await opt_out_immediately(pool, settings, request)
    again = await opt_out_immediately(pool, settings, request)
    assert first == (first.job_id, True, False, None, None)
    assert again == (first.job_id, False, False, None, None)
    assert await count_written_rows(pool) == (1, 1, 0, 0, 0)
    assert [line["event"] for line in lines] == [
        "job.submitted",
        "opt_out.received",
        "opt_out.deferred",
    ]
    assert lines[-1]["error"] == "RaiseError"
    await pool.execute("drop trigger poison on email_addresses")
    await InProcessRunner(pool, settings, chunk_size=10, parallel=1).work(first.job_id)
    assert await opt_out_immediately(pool, settings, request) == (
        first.job_id,
        False,
        True,
        None,
        None,
    )
    assert (await statuses_of(pool, shop))["family@example.com"] == ("manual", True)


async def test_a_lost_connection_leaves_nothing_and_the_key_works_afterwards(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """If the connection ends while the opt-out waits for a lock, it raises and stores nothing. The
    same key can be sent again.
    """
    request = opt_out(idempotency_key="click")
    async with pool.acquire() as other, other.transaction():
        await other.execute("select from email_addresses for update")
        waiting = asyncio.create_task(opt_out_immediately(pool, settings, request))

        async def cut_off() -> bool:
            return await other.fetchval(
                "select bool_or(pg_terminate_backend(pid)) from pg_locks where not granted"
                " and pg_backend_pid() = any(pg_blocking_pids(pid))"
            )

        await wait_until_async(cut_off, deadline_seconds=20, what="it waits for the lock")
        with pytest.raises(TRANSIENT_ERRORS):
            await waiting
        assert await count_written_rows(pool) == NO_ROWS
    answer = await opt_out_immediately(pool, settings, request)
    assert (answer.created, answer.applied) == (True, True)
    assert (await statuses_of(pool, shop))["ann@example.com"] == ("manual", False)


async def test_a_deadlock_is_retried(pool: asyncpg.Pool, settings: Settings, shop: int):
    """If Postgres ends the opt-out to resolve a deadlock, it is tried again and applied before the
    answer.
    """
    ids = dict(await pool.fetch("select match_key, id from email_addresses order by id"))
    assert ids["ann@example.com"] < ids["family@example.com"]
    lock = "select from email_addresses where id = $1 for update"
    async with pool.acquire() as other:
        transaction = other.transaction()
        await transaction.start()
        # Make the opt-out detect the deadlock first, so that Postgres ends it.
        await other.execute("set local deadlock_timeout = '60s'")
        await other.fetch(lock, ids["family@example.com"])
        waiting = asyncio.create_task(opt_out_immediately(pool, settings, opt_out()))
        await wait_until_lock_contended(pool, what="it waits for the lock")
        await other.fetch(lock, ids["ann@example.com"])
        await transaction.rollback()
    answer = await asyncio.wait_for(waiting, 80)
    assert (answer.created, answer.applied) == (True, True)
    assert await pool.fetchval("select count(*) from jobs") == 1


async def test_a_long_lock_leaves_the_opt_out_to_the_workers(
    pool: asyncpg.Pool, settings: Settings, shop: int, database_url: str
):
    """After a limited number of tries the opt-out stores only its job, for the workers to do."""
    database = await pool.fetchval("select current_database()")
    await pool.execute(f"alter database {database} set lock_timeout = '20ms'")
    async with (
        await open_pool(database_url, size=1) as short_timeout_pool,
        pool.acquire() as other,
        other.transaction(),
    ):
        await other.execute("select from email_addresses for update")
        with capture_logs() as lines:
            answer = await opt_out_immediately(short_timeout_pool, settings, opt_out())
        assert (answer.created, answer.applied) == (True, False)
    assert lines[-1]["event"] == "opt_out.deferred"
    assert lines[-1]["error"] == "LockNotAvailableError"
    assert await count_written_rows(pool) == (1, 1, 0, 0, 0)


async def test_an_opt_out_overrides_a_running_opt_in(pool: asyncpg.Pool, settings: Settings):
    """Promise 2: no address that an acknowledged opt-out covers, or is propagated to, is marketable
    afterwards. It does not matter which job comes to the address first.
    """
    account_id = await make_account(pool, "shop")
    contact_ids = range(1, 61)
    await fill(
        pool,
        account_id,
        {n: {1: f"a{n}@example.com", 2: f"b{n // 2}@example.com"} for n in contact_ids},
        dict.fromkeys(
            [
                *(f"a{n}@example.com" for n in contact_ids),
                *(f"b{n}@example.com" for n in range(31)),
            ],
            ("non_marketable", False),
        ),
    )
    opt_in = parse_request(
        {
            "action": "opt_in",
            "account": "shop",
            "selection": {"all": True},
            "fields": ["email1", "email2"],
            "evidence": EVIDENCE,
            "requested_by": "test",
        }
    )
    job_id = (await submit(pool, settings, opt_in)).job_id
    covered: set[str] = set()

    async def unsubscribe(contact: int) -> None:
        answer = await opt_out_immediately(pool, settings, opt_out([contact]))
        assert answer.applied
        covered.update((f"a{contact}@example.com", f"b{contact // 2}@example.com"))
        statuses = await statuses_of(pool, account_id)
        assert {statuses[address][0] for address in covered} == {"manual"}

    async def unsubscribe_all() -> None:
        for contact in contact_ids[::3]:
            await unsubscribe(contact)

    running = InProcessRunner(pool, settings, chunk_size=2, parallel=2)
    await asyncio.gather(running.work(job_id), unsubscribe_all())
    statuses = await statuses_of(pool, account_id)
    assert {statuses[address][0] for address in covered} == {"manual"}
    assert any(status in MARKETABLE for status, _ in statuses.values())


async def test_an_opt_out_by_address_is_propagated(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """The address is found in any spelling and opted out, and so are its siblings. Its direct
    result names no contact.
    """
    answer = await opt_out_immediately(
        pool, settings, opt_out(selection={"addresses": ["Family@EXAMPLE.com"]})
    )
    assert (answer.created, answer.applied, answer.propagated) == (True, True, 2)
    assert (await statuses_of(pool, shop))["family@example.com"] == ("manual", False)
    assert (await statuses_of(pool, shop))["ann@example.com"] == ("manual", True)
    direct = await pool.fetchrow(
        "select field, outcome, to_status from results where job_id = $1 and cause = 'direct'",
        answer.job_id,
    )
    assert dict(direct) == {"field": 0, "outcome": "applied", "to_status": "manual"}


async def test_an_unknown_address_is_kept_as_opted_out(pool: asyncpg.Pool, settings: Settings):
    """An address that no contact holds is stored as opted out. A later import with permission keeps
    that status, and the opt-out is propagated to the siblings that the import adds.
    """
    shop = await make_account(pool, "shop")
    await opt_out_immediately(pool, settings, opt_out(selection={"addresses": ["new@example.com"]}))
    work = InProcessRunner(pool, settings, chunk_size=2, parallel=1)
    rows = b"Email,Email Address 2\nNEW@example.com,beside@example.com\n"
    await work("shop", "import", rows, None, {"permission": True})
    statuses = await statuses_of(pool, shop)
    assert statuses["new@example.com"] == ("manual", False)
    assert statuses["beside@example.com"] == ("manual", True)


async def test_an_invalid_selection_of_addresses_is_explained(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """An invalid address is named by its position. Addresses combined with contacts, fields or an
    opt-in raise an error too. Nothing is stored.
    """
    before = await count_written_rows(pool)
    for changes, message in (
        (
            {"selection": {"addresses": ["ann@example.com", "not one"]}},
            "second of `selection.addresses`",
        ),
        ({"selection": {"addresses": ["ann@example.com"], "contacts": [1]}}, "cannot be combined"),
        ({"selection": {"addresses": ["ann@example.com"]}, "fields": ["email1"]}, "no fields"),
        ({"selection": {"addresses": ["a@example.com"]}, "action": "opt_in"}, "no addresses"),
        ({"selection": {"addresses": ["a\x00@example.com"]}}, "first of `selection.addresses`"),
        ({"selection": {"addresses": []}}, "The list is empty"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            await opt_out_immediately(pool, settings, opt_out(**changes))
    assert await count_written_rows(pool) == before


async def test_two_concurrent_opt_outs_make_one_address(
    pool: asyncpg.Pool, settings: Settings, shop: int, database_url: str
):
    """Concurrent opt-outs of one unknown address create one address, and both are applied to it."""
    async with await open_pool(database_url, size=8) as large_pool:
        answers = await asyncio.gather(
            *(
                opt_out_immediately(
                    large_pool, settings, opt_out(selection={"addresses": ["n@example.com"]})
                )
                for _ in range(8)
            )
        )
    assert all(answer.applied for answer in answers)
    assert len({answer.job_id for answer in answers}) == 8
    outcomes = await pool.fetch(
        "select outcome from results r join email_addresses a on a.id = r.address_id"
        " where a.match_key = 'n@example.com'"
    )
    assert sorted(row["outcome"] for row in outcomes) == ["applied"] + ["unchanged"] * 7


async def test_an_opt_out_whose_job_was_cancelled_is_applied_when_it_is_repeated(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """An opt-out left to the workers is cancelled. Sending it again applies it with a new job; a
    third request returns that new job.
    """
    request = opt_out(selection={"addresses": ["ann@example.com"]}, idempotency_key="click")
    waiting = await submit(pool, settings, request)
    await control.cancel(pool, settings, shop, waiting.job_id)
    answer = await opt_out_immediately(pool, settings, request)
    assert answer.job_id != waiting.job_id
    assert (answer.created, answer.applied) == (True, True)
    assert (await statuses_of(pool, shop))["ann@example.com"] == ("manual", False)
    again = await opt_out_immediately(pool, settings, request)
    assert (again.job_id, again.created, again.applied) == (answer.job_id, False, True)


async def test_an_opt_out_that_workers_gave_up_is_applied_when_it_is_repeated(
    pool: asyncpg.Pool, settings: Settings
):
    """A job that workers completed with internal_error did not opt the address out, and no answer
    says so. Once the cause is gone, sending it again applies it.
    """
    account_id = await make_account(pool, "shop")
    await fill(
        pool, account_id, {1: {1: "poison@example.com"}}, {"poison@example.com": MARKETABLE_ONE}
    )
    await pool.execute(REFUSED_BY_POSTGRES)
    request = opt_out(selection={"addresses": ["poison@example.com"]}, idempotency_key="click")
    first = await opt_out_immediately(pool, settings, request)
    driver = AccountDriver(pool, settings, "shop")
    await driver.work(first.job_id)
    assert await read_counts(pool, first.job_id) == {("rejected", "internal_error"): 1}
    second = await opt_out_immediately(pool, settings, request)
    assert (second.applied, second.job_id == first.job_id) == (False, False)
    await pool.execute("drop trigger poison_stays on email_addresses")
    await driver.work(second.job_id)
    done = await opt_out_immediately(pool, settings, request)
    assert (done.job_id, done.applied) == (second.job_id, True)
    assert await statuses_of(pool, account_id) == {"poison@example.com": ("manual", False)}
