"""The checks of a chaos run find what was lost, leaked or wrong over HTTP."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from producers.immediate_opt_out import opt_out_immediately
from runtime.settings import Settings
from runtime.signing import signature, webhook_secret
from schemas.requests import JobRequest, Selection
from tests.chaos import checks
from tests.chaos.acknowledgements import AcknowledgedJob, DisclosedId, OptOutByAddress, Records
from tests.chaos.observer import Observer
from tests.chaos.opt_out_checks import OPT_OUT_IN_FORCE, find_ineffective_opt_outs
from tests.chaos.web_checks import KEPT_ADDRESSED, NOT_ANOTHERS, NOT_REOPENED, check_web
from tests.chaos.web_client import WebClient
from tests.chaos.webhook_checks import DELIVERED, RIGHT, check_webhooks
from tests.kit.factories import fill, make_account
from tests.kit.http_receiver import ReceivedRequest, Receiver, answer

ADA, ADA_AT_WORK = "ada@example.com", "ada@work.example.net"


@pytest.fixture
async def records(pool: asyncpg.Pool, settings: Settings) -> Records:
    """One recipient's opt-out by her address, acknowledged; of the account's only contact."""
    account_id = await make_account(pool, "shop")
    await fill(
        pool,
        account_id,
        {1: {1: ADA, 2: ADA_AT_WORK}},
        {ADA: ("confirmed", 0), ADA_AT_WORK: ("confirmed", 0)},
    )
    request = JobRequest(
        account="shop",
        action="opt_out",
        selection=Selection(addresses=(ADA,)),
        params={"kind": "manual"},
        requested_by="hook 1 (keap)",
        idempotency_key="hook 1 4711",
    )
    done = await opt_out_immediately(pool, settings, request)
    return Records(
        jobs=[AcknowledgedJob(done.job_id, "shop", "hook 1 4711", expects_webhook=True)],
        opt_outs_by_address=[OptOutByAddress("shop", "hook 1 4711", ADA, datetime.now(UTC))],
        disclosed_jobs={DisclosedId("shop", done.job_id)},
        disclosed_contacts={DisclosedId("shop", 1)},
    )


async def violated(pool: asyncpg.Pool, records: Records) -> set[str]:
    """Return the names of the web checks that these records violate."""
    return {violation.check for violation in await check_web(Observer(pool), records)}


async def test_what_was_kept_violates_nothing(pool: asyncpg.Pool, records: Records):
    """An undisturbed opt-out passes every check, by its job or by an answer without one."""
    assert await violated(pool, records) == set()
    records.jobs = [records.jobs[0]._replace(job_id=None)]
    _, found = await checks.check_database(Observer(pool), records)
    assert found == []


async def test_a_lost_opt_out_is_seen(pool: asyncpg.Pool, records: Records):
    """One whose address is unknown, and one that only spread to its address."""
    for match_key in ("bob@example.com", ADA_AT_WORK):
        lost = records.opt_outs_by_address[0]._replace(match_key=match_key)
        assert await violated(pool, Records(opt_outs_by_address=[lost])) == {KEPT_ADDRESSED}


async def test_an_address_that_is_made_marketable_later_is_seen(
    pool: asyncpg.Pool, records: Records
):
    """A result after the answer; one from before does not matter."""
    await pool.execute(
        "insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id,"
        " outcome, from_status, to_status)"
        " select account_id, $1, 1, 1, 1, 1, id, 'applied', 'non_marketable', 'single_opt_in'"
        " from email_addresses where match_key = $2",
        records.jobs[0].job_id,
        ADA,
    )
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await violated(pool, records) == {NOT_REOPENED}
    records.opt_outs_by_address = [records.opt_outs_by_address[0]._replace(answered_at=later)]
    assert await violated(pool, records) == set()


async def test_data_of_another_account_is_found(pool: asyncpg.Pool, records: Records):
    """A job, and a contact, of which another account was told."""
    job_id = records.jobs[0].job_id
    assert job_id is not None
    assert await violated(pool, Records(disclosed_jobs={DisclosedId("default", job_id)})) == {
        NOT_ANOTHERS
    }
    assert await violated(pool, Records(disclosed_contacts={DisclosedId("default", 1)})) == {
        NOT_ANOTHERS
    }


async def test_an_opt_out_that_does_not_hold_for_all_it_covers_is_seen(
    pool: asyncpg.Pool, records: Records
):
    """The other address of the same person counts as the address itself does."""

    async def left() -> list[str]:
        found = await find_ineffective_opt_outs(Observer(pool), "shop", key="4711", match_key=ADA)
        return [violation.check for violation in found]

    assert await left() == []
    await pool.execute(
        "update email_addresses"
        " set status = 'confirmed', previous_status = null, propagated_from = null"
    )
    assert await left() == [OPT_OUT_IN_FORCE, OPT_OUT_IN_FORCE]


async def test_a_job_that_nobody_submitted_is_found(pool: asyncpg.Pool, records: Records):
    """A second one of an event that was told twice would be such a job."""
    del records.jobs[:]
    _, found = await checks.check_database(Observer(pool), records)
    assert [violation.check for violation in found] == [checks.ASKED_FOR]


async def test_a_job_cancelled_without_a_request_is_found(pool: asyncpg.Pool, records: Records):
    """Only those may end so that somebody asked to cancel."""
    job_id = await pool.fetchval(
        "insert into jobs (account_id, action, fields, params, selection, requested_by,"
        " idempotency_key, request_hash, correlation_id, state, selected, planned_at, finished_at)"
        " values (1, 'opt_out', '{1}', '{}', '{}', 'storm', 'two', '', 'x', 'cancelled', 0,"
        " now(), now()) returning id"
    )
    records.jobs.append(AcknowledgedJob(job_id, "default", "two"))
    _, found = await checks.check_database(Observer(pool), records)
    assert [violation.check for violation in found] == [checks.ENDED_RIGHT]
    records.to_be_cancelled.add(job_id)
    _, found = await checks.check_database(Observer(pool), records)
    assert found == []


def posted(settings: Settings, account_id: int, job_id: int | None, **changes) -> ReceivedRequest:
    """A notice of the job, as a worker sends it, and as the receiver took it."""
    counts = {"applied": 1, "unchanged": 0, "rejected": 0, "empty": 0, "propagated": 1}
    told = {"job": job_id, "account": "shop", "state": "completed", "counts": counts} | changes
    body = json.dumps(told).encode()
    signed = signature(webhook_secret(settings, account_id), 17, body)
    headers = {"sluice-timestamp": "17", "sluice-signature": signed}
    return ReceivedRequest("POST /ended HTTP/1.1", headers, body, reply=answer(204))


async def test_missing_and_wrong_webhooks_are_found(
    pool: asyncpg.Pool, settings: Settings, records: Records
):
    """None at all, one that was refused, another state, other counts, another's secret."""
    job_id = records.jobs[0].job_id
    shop = await pool.fetchval("select id from accounts where name = 'shop'")
    right = posted(settings, shop, job_id)

    async def found(*came: ReceivedRequest) -> list[str]:
        there = Receiver(lambda _: answer(204), requests=list(came))
        of_it = await check_webhooks(Observer(pool), settings, there, records)
        return [violation.check for violation in of_it]

    assert await found(right) == []
    assert await found() == [DELIVERED]
    refused = posted(settings, shop, job_id)
    refused.reply = answer(500)
    assert await found(refused) == [DELIVERED]
    assert await found(refused, right) == []
    assert await found(right, posted(settings, shop, job_id, state="running")) == [RIGHT]
    counts = {"applied": 2, "unchanged": 0, "rejected": 0, "empty": 0, "propagated": 1}
    assert await found(right, posted(settings, shop, job_id, counts=counts)) == [RIGHT]
    assert await found(right, posted(settings, shop + 1, job_id)) == [RIGHT]


async def test_a_client_repeats_requests_after_503_and_429() -> None:
    """After 503, and after 429, which a file gets whose first answer was given up: the same again,
    until it is answered. What is lost so is told with the answer.
    """
    statuses = ["429 Too Many Requests", "503 Service Unavailable", "202 Accepted"]

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {statuses.pop(0)}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = WebClient(f"http://127.0.0.1:{port}", Records())
        told = await client.ask("submit a job", "POST", "/v1/jobs")
        await client.close()
    assert (told.status, told.lost, statuses) == (202, 2, [])
