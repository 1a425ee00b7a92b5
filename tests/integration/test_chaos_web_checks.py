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
    """Acknowledge one opt-out by address of the only contact; return the records of it."""
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


async def violated_checks(pool: asyncpg.Pool, records: Records) -> set[str]:
    """Return the names of the web checks that these records violate."""
    return {violation.check for violation in await check_web(Observer(pool), records)}


async def test_intact_data_violates_nothing(pool: asyncpg.Pool, records: Records):
    """An undisturbed opt-out passes every check, whether it was acknowledged with its job or
    without.
    """
    assert await violated_checks(pool, records) == set()
    records.jobs = [records.jobs[0]._replace(job_id=None)]
    _, found = await checks.check_database(Observer(pool), records)
    assert found == []


async def test_a_lost_opt_out_is_found(pool: asyncpg.Pool, records: Records):
    """An opt-out of an unknown address, or one only propagated to the address, counts as lost."""
    for match_key in ("bob@example.com", ADA_AT_WORK):
        lost = records.opt_outs_by_address[0]._replace(match_key=match_key)
        assert await violated_checks(pool, Records(opt_outs_by_address=[lost])) == {KEPT_ADDRESSED}


async def test_an_address_made_marketable_later_is_found(pool: asyncpg.Pool, records: Records):
    """Only a result after the acknowledgement is a violation."""
    await pool.execute(
        "insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id,"
        " outcome, from_status, to_status)"
        " select account_id, $1, 1, 1, 1, 1, id, 'applied', 'non_marketable', 'single_opt_in'"
        " from email_addresses where match_key = $2",
        records.jobs[0].job_id,
        ADA,
    )
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await violated_checks(pool, records) == {NOT_REOPENED}
    records.opt_outs_by_address = [records.opt_outs_by_address[0]._replace(answered_at=later)]
    assert await violated_checks(pool, records) == set()


async def test_data_of_another_account_is_found(pool: asyncpg.Pool, records: Records):
    """A job or a contact that was disclosed to another account is a violation."""
    job_id = records.jobs[0].job_id
    assert job_id is not None
    assert await violated_checks(
        pool, Records(disclosed_jobs={DisclosedId("default", job_id)})
    ) == {NOT_ANOTHERS}
    assert await violated_checks(pool, Records(disclosed_contacts={DisclosedId("default", 1)})) == {
        NOT_ANOTHERS
    }


async def test_an_opt_out_without_effect_on_all_its_addresses_is_found(
    pool: asyncpg.Pool, records: Records
):
    """The contact's other address must be opted out as well."""

    async def failed_checks() -> list[str]:
        found = await find_ineffective_opt_outs(Observer(pool), "shop", key="4711", match_key=ADA)
        return [violation.check for violation in found]

    assert await failed_checks() == []
    await pool.execute(
        "update email_addresses"
        " set status = 'confirmed', previous_status = null, propagated_from = null"
    )
    assert await failed_checks() == [OPT_OUT_IN_FORCE, OPT_OUT_IN_FORCE]


async def test_a_job_that_nobody_submitted_is_found(pool: asyncpg.Pool, records: Records):
    """A second job for one event would be such a job."""
    del records.jobs[:]
    _, found = await checks.check_database(Observer(pool), records)
    assert [violation.check for violation in found] == [checks.ASKED_FOR]


async def test_a_job_cancelled_without_a_request_is_found(pool: asyncpg.Pool, records: Records):
    """A job may be cancelled only if a client asked for it."""
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


def received_webhook(
    settings: Settings, account_id: int, job_id: int | None, **changes
) -> ReceivedRequest:
    """Return a completion webhook of the job as the receiver stores it."""
    counts = {"applied": 1, "unchanged": 0, "rejected": 0, "empty": 0, "propagated": 1}
    payload = {"job": job_id, "account": "shop", "state": "completed", "counts": counts} | changes
    body = json.dumps(payload).encode()
    signature_header = signature(webhook_secret(settings, account_id), 17, body)
    headers = {"sluice-timestamp": "17", "sluice-signature": signature_header}
    return ReceivedRequest("POST /ended HTTP/1.1", headers, body, reply=answer(204))


async def test_missing_and_wrong_webhooks_are_found(
    pool: asyncpg.Pool, settings: Settings, records: Records
):
    """No webhook, a refused one, a wrong state, wrong counts and another account's secret are
    found.
    """
    job_id = records.jobs[0].job_id
    shop = await pool.fetchval("select id from accounts where name = 'shop'")
    right = received_webhook(settings, shop, job_id)

    async def found(*webhooks: ReceivedRequest) -> list[str]:
        receiver = Receiver(lambda _: answer(204), requests=list(webhooks))
        violations = await check_webhooks(Observer(pool), settings, receiver, records)
        return [violation.check for violation in violations]

    assert await found(right) == []
    assert await found() == [DELIVERED]
    refused = received_webhook(settings, shop, job_id)
    refused.reply = answer(500)
    assert await found(refused) == [DELIVERED]
    assert await found(refused, right) == []
    assert await found(right, received_webhook(settings, shop, job_id, state="running")) == [RIGHT]
    counts = {"applied": 2, "unchanged": 0, "rejected": 0, "empty": 0, "propagated": 1}
    assert await found(right, received_webhook(settings, shop, job_id, counts=counts)) == [RIGHT]
    assert await found(right, received_webhook(settings, shop + 1, job_id)) == [RIGHT]


async def test_a_client_repeats_requests_after_503_and_429() -> None:
    """The client repeats the request until another status arrives, and counts lost answers."""
    statuses = ["429 Too Many Requests", "503 Service Unavailable", "202 Accepted"]

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {statuses.pop(0)}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = WebClient(f"http://127.0.0.1:{port}", Records())
        response = await client.ask("submit a job", "POST", "/v1/jobs")
        await client.close()
    assert (response.status, response.lost, statuses) == (202, 2, [])
