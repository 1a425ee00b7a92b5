"""An immediate opt-out takes account of changes that commit between its reads and its writes."""

import asyncio

import asyncpg

from producers.immediate_opt_out import opt_out_immediately
from producers.recipient_events import opt_out_request
from runtime.settings import Settings
from schemas.statuses import Status
from tests.kit.factories import fill, make_account, statuses_of
from tests.kit.waiting import wait_until_lock_contended

ANN, FAMILY, LATE = "ann@shop.example", "family@shop.example", "late@shop.example"


async def opt_out(pool: asyncpg.Pool, settings: Settings):
    """Opt out one address immediately."""
    request = opt_out_request(
        account="shop",
        addresses=[ANN],
        kind=Status.MANUAL,
        source="a test",
        key=None,
        requested_by="a test",
        correlation_id="c-1",
    )
    return await opt_out_immediately(pool, settings, request)


async def test_a_contact_linked_concurrently_is_opted_out_too(
    pool: asyncpg.Pool, settings: Settings
):
    """A contact is linked to the address in a transaction that is still open when the siblings are
    read. Its other address is opted out too, and counted in the answer.
    """
    account_id = await make_account(pool, "shop")
    await fill(
        pool,
        account_id,
        {1: {1: ANN, 2: FAMILY}, 2: {1: LATE}},
        dict.fromkeys((ANN, FAMILY, LATE), ("single_opt_in", False)),
    )
    async with pool.acquire() as other, other.transaction():
        ann = await other.fetchval(
            "update email_addresses set contact_count = contact_count + 1 where match_key = $1"
            " returning id",
            ANN,
        )
        await other.execute(
            "insert into contact_emails (account_id, contact_id, field, address_id)"
            " values ($1, 2, 2, $2)",
            account_id,
            ann,
        )
        opt_out_task = asyncio.create_task(opt_out(pool, settings))
        await wait_until_lock_contended(pool, what="the opt-out waits for the address")
    done = await opt_out_task
    assert (done.applied, done.propagated, done.status) == (True, 2, Status.MANUAL)
    assert await statuses_of(pool, account_id) == {
        ANN: ("manual", False),
        FAMILY: ("manual", True),
        LATE: ("manual", True),
    }


async def test_the_answer_names_the_stored_status(pool: asyncpg.Pool, settings: Settings):
    """The answer names the stored status. A stronger opt-out made in the meantime is kept."""
    account_id = await make_account(pool, "shop")
    done = await opt_out(pool, settings)
    assert (done.applied, done.propagated, done.status) == (True, 0, Status.MANUAL)
    await pool.execute("update email_addresses set status = 'spam' where match_key = $1", ANN)
    done = await opt_out(pool, settings)
    assert (done.applied, done.propagated, done.status) == (True, 0, Status.SPAM)
    assert await statuses_of(pool, account_id) == {ANN: ("spam", False)}
