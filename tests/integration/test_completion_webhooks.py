"""Completion webhooks are signed, delivered at least once, and never delay other work."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import asyncpg
import pytest
from structlog.testing import capture_logs

from db import webhook_deliveries as stored
from producers.accounts import create_account
from producers.control import cancel
from producers.submit import submit
from runtime.settings import Settings
from runtime.signing import signature, webhook_secret
from schemas.errors import InvalidRequest
from tests.kit.factories import fill_large_account, key_of
from tests.kit.http_receiver import HANG, answer, run_scripted_receiver
from tests.kit.in_process import InProcessRunner
from tests.kit.submitting import request_with_webhook
from tests.kit.waiting import wait_until_async
from workers import webhook_client
from workers.context import WorkerContext
from workers.webhook_client import NotPublicError, ResponseTooLargeError
from workers.webhook_delivery import (
    MAX_ATTEMPTS,
    MAX_DELIVERIES_PER_ACCOUNT,
    WebhookDelivery,
    describe_failure,
    retry_seconds,
)

OK = answer(200, body="thank you")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Return the usual settings, with completion webhooks to this machine allowed."""
    return settings.model_copy(update={"allow_private_webhooks": True})


def context_of(pool: asyncpg.Pool, settings: Settings) -> WorkerContext:
    """Create a worker's context without a queue."""
    context = WorkerContext(settings, cast("Any", None), "test")
    context.use_pool(pool)
    return context


@pytest.fixture
async def deliveries(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[WebhookDelivery]:
    """Yield the webhook delivery of a worker process; it delivers only when a test calls it."""
    delivery = WebhookDelivery(context_of(pool, settings))
    yield delivery
    await stop_deliveries(delivery)


async def stop_deliveries(deliveries: WebhookDelivery) -> None:
    """Stop the deliveries, and wait for those in progress."""
    lanes = list(deliveries._tasks)
    deliveries.stop()
    await asyncio.gather(*lanes, return_exceptions=True)


async def submit_ended_job(pool, settings, url, **changes) -> int:
    """Submit a job and end it by cancelling it; return its id."""
    job_id = (await submit(pool, settings, request_with_webhook(url, **changes))).job_id
    await cancel(pool, settings, None, job_id)
    return job_id


async def get_delivery(pool: asyncpg.Pool, job_id: int) -> stored.Delivery:
    """Return the stored state of the job's delivery."""
    async with pool.acquire() as connection:
        delivery = await stored.get_delivery(connection, await key_of(pool, job_id))
    assert delivery is not None
    return delivery


async def until(
    deliveries: WebhookDelivery,
    pool: asyncpg.Pool,
    job_id: int,
    met: Callable[[stored.Delivery], object],
) -> stored.Delivery:
    """Deliver repeatedly, as a worker does each second, until `met` holds."""

    async def deliver_and_check() -> stored.Delivery | None:
        await deliveries.deliver_due(deliveries._context)
        delivery = await get_delivery(pool, job_id)
        return delivery if met(delivery) else None

    delivery = await wait_until_async(
        deliver_and_check, deadline_seconds=20, what=f"webhook of job {job_id}"
    )
    assert delivery is not None
    return delivery


async def make_due(pool: asyncpg.Pool, job_id: int) -> None:
    """Make the job's next delivery due now, so that the test need not wait."""
    await pool.execute(
        "update webhook_deliveries set due_at = clock_timestamp() where job_id = $1", job_id
    )


async def deliver_once(deliveries: WebhookDelivery) -> None:
    """Deliver what is due, and wait for all attempts."""
    await deliveries.deliver_due(deliveries._context)
    await asyncio.gather(*deliveries._tasks)


async def test_a_webhook_has_counts_and_a_signature(pool, settings, deliveries):
    """The body has the stored counts of the job, and the account's secret signs it."""
    await fill_large_account(pool, 1, 20)
    async with run_scripted_receiver(OK) as receiver:
        job_id = (
            await submit(pool, settings, request_with_webhook(receiver.url, correlation_id="c7"))
        ).job_id
        await InProcessRunner(pool, settings, chunk_size=7, parallel=1).work(job_id)
        delivery = await until(deliveries, pool, job_id, lambda n: n.delivered_at)
    assert (delivery.attempts, delivery.abandoned_at, delivery.error) == (1, None, None)
    (posted,) = receiver.requests
    assert posted.line == "POST /ended?token=hush HTTP/1.1"
    body = json.loads(posted.body)
    row = dict(await pool.fetchrow("select * from jobs where id = $1", job_id))
    assert row["applied"] > 0
    assert body["counts"] == {name: row[name] for name in body["counts"]}
    assert body["counts"].keys() >= {"selected", "applied", "unchanged", "rejected", "empty"}
    rest = {key: body[key] for key in body.keys() - {"counts", "reasons"}}
    assert rest == {
        "event": "job.ended",
        "job": job_id,
        "account": "default",
        "action": "opt_out",
        "state": "completed",
        "finished_at": row["finished_at"].isoformat(),
        "correlation_id": "c7",
    }
    secret, timestamp = webhook_secret(settings, 1), posted.headers["sluice-timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    assert posted.headers["sluice-signature"] == signature(secret, timestamp, posted.body)
    assert posted.headers["sluice-delivery"] == f"{job_id}-1"
    assert posted.headers["host"] == f"127.0.0.1:{receiver.port}"


async def test_nothing_is_delivered_before_the_end(pool, settings, deliveries):
    """The webhook of a running job is not due."""
    async with run_scripted_receiver(OK) as receiver:
        running = (await submit(pool, settings, request_with_webhook(receiver.url))).job_id
        ended = await submit_ended_job(pool, settings, receiver.url)
        await until(deliveries, pool, ended, lambda n: n.delivered_at)
        assert (await get_delivery(pool, running)).attempts == 0
    assert len(receiver.requests) == 1


async def test_a_delivered_webhook_is_not_sent_again(pool, settings, deliveries):
    """The webhook is sent once, however often workers check for due deliveries."""
    async with run_scripted_receiver(OK) as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        await until(deliveries, pool, job_id, lambda n: n.delivered_at)
        await make_due(pool, job_id)
        await deliveries.deliver_due(deliveries._context)
        assert not deliveries._tasks
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_a_failed_delivery_is_repeated(pool, settings, deliveries, status):
    """A delivery is repeated after a delay. A redirect is not followed and counts as a failure."""
    async with run_scripted_receiver(OK) as elsewhere:
        response = answer(status, f"Location: {elsewhere.url}")
        async with run_scripted_receiver(response, OK) as receiver:
            job_id = await submit_ended_job(pool, settings, receiver.url)
            failed = await until(deliveries, pool, job_id, lambda n: n.error)
            assert failed.error == f"The receiver answered {status}."
            wait = await pool.fetchval(
                "select extract(epoch from due_at - clock_timestamp())::float8"
                " from webhook_deliveries where job_id = $1",
                job_id,
            )
            assert wait < 1.3
            await make_due(pool, job_id)
            delivery = await until(deliveries, pool, job_id, lambda n: n.delivered_at)
    assert (delivery.attempts, delivery.error) == (2, None)
    assert [p.headers["sluice-delivery"] for p in receiver.requests] == [
        f"{job_id}-1",
        f"{job_id}-2",
    ]
    assert not elsewhere.requests


async def test_410_abandons_the_webhook(pool, settings, deliveries):
    """After 410 (gone) there is no further attempt."""
    async with run_scripted_receiver(answer(410)) as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        with capture_logs() as logs:
            delivery = await until(deliveries, pool, job_id, lambda n: n.abandoned_at)
    assert (delivery.attempts, delivery.delivered_at, len(receiver.requests)) == (1, None, 1)
    (line,) = [line for line in logs if line["event"].startswith("webhook.")]
    assert (line["event"], line["http_status"], line["attempt"]) == ("webhook.abandoned", 410, 1)


async def test_a_webhook_is_abandoned_after_the_last_attempt(pool, settings, deliveries):
    """It is abandoned after MAX_ATTEMPTS, no earlier, and not sent again."""
    async with run_scripted_receiver(answer(500)) as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        for attempt in range(1, MAX_ATTEMPTS):
            await make_due(pool, job_id)
            await deliver_once(deliveries)
            delivery = await get_delivery(pool, job_id)
            assert (delivery.attempts, delivery.abandoned_at) == (attempt, None)
        for _ in range(2):
            await make_due(pool, job_id)
            await deliver_once(deliveries)
            delivery = await get_delivery(pool, job_id)
            assert (delivery.attempts, delivery.error) == (
                MAX_ATTEMPTS,
                "The receiver answered 500.",
            )
            assert delivery.abandoned_at
    assert len(receiver.requests) == MAX_ATTEMPTS


def test_delays_grow_up_to_an_hour():
    """They are 1, 4, 16 seconds and so on, varied by a fifth."""
    for attempt, seconds in ((1, 1), (2, 4), (3, 16), (6, 1024), (7, 3600), (99, 3600)):
        assert 0.8 * seconds <= retry_seconds(attempt) <= 1.2 * seconds
    assert len({retry_seconds(3) for _ in range(9)}) > 1


async def test_a_receiver_that_hangs_times_out(pool, settings, deliveries, monkeypatch):
    """The attempt ends at its timeout, and counts."""
    monkeypatch.setattr(webhook_client, "TOTAL_TIMEOUT_SECONDS", 0.2)
    async with run_scripted_receiver(HANG) as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        delivery = await until(deliveries, pool, job_id, lambda n: n.error)
    assert delivery.error == "The receiver did not answer within 10 seconds."
    assert delivery.attempts == 1


async def test_an_endless_response_is_an_error(pool, settings, deliveries):
    """The body of a response is not read to its end; the head decides."""
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nnever\r\n" * 9
    async with run_scripted_receiver(endless) as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        await until(deliveries, pool, job_id, lambda n: n.delivered_at)


async def test_a_response_that_is_not_http_is_an_error(pool, settings, deliveries):
    """It counts as a failed delivery."""
    async with run_scripted_receiver(b"220 mail.example ESMTP\r\n") as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        delivery = await until(deliveries, pool, job_id, lambda n: n.error)
        assert "RemoteProtocolError" in (delivery.error or "")
    await make_due(pool, job_id)
    delivery = await until(
        deliveries, pool, job_id, lambda n: n.attempts == 2 and n.error != delivery.error
    )
    assert delivery.error == "The receiver could not be reached (ConnectionRefusedError)."


async def test_a_slow_receiver_does_not_hold_up_the_rest(pool, settings, deliveries):
    """Webhooks of other accounts are delivered, however many a slow one has due."""
    await create_account(pool, "other")
    async with run_scripted_receiver(HANG) as slow, run_scripted_receiver(OK) as quick:
        for _ in range(12):
            await submit_ended_job(pool, settings, slow.url)
        other_job = await submit_ended_job(pool, settings, quick.url, account="other")
        await until(deliveries, pool, other_job, lambda n: n.delivered_at)
        assert slow.connections <= MAX_DELIVERIES_PER_ACCOUNT
        await stop_deliveries(deliveries)


async def test_a_delivery_holds_no_database_connection(pool, settings, deliveries):
    """While a receiver is slow, the whole connection pool stays free."""
    async with run_scripted_receiver(HANG) as slow:
        await submit_ended_job(pool, settings, slow.url)
        await deliveries.deliver_due(deliveries._context)
        await wait_until_async(
            lambda: len(slow.requests) == 1,
            deadline_seconds=10,
            what="the receiver has the request",
        )
        assert pool.get_idle_size() == pool.get_size()
        assert not await pool.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and state like 'idle in transaction%'"
        )
        await stop_deliveries(deliveries)


async def test_each_webhook_is_delivered_by_one_worker(pool, settings, deliveries):
    """Several processes that look at the same time do not send it twice."""
    second = WebhookDelivery(context_of(pool, settings))
    async with run_scripted_receiver(OK) as receiver:
        job_ids = [await submit_ended_job(pool, settings, receiver.url) for _ in range(10)]
        await asyncio.gather(
            *(
                until(worker, pool, job_id, lambda n: n.delivered_at)
                for job_id in job_ids
                for worker in (deliveries, second)
            )
        )
    assert sorted(json.loads(p.body)["job"] for p in receiver.requests) == job_ids
    await stop_deliveries(second)


async def test_a_killed_workers_delivery_is_repeated(pool, settings, deliveries):
    """It is repeated when its lease has expired, not before: at-least-once delivery."""
    async with run_scripted_receiver(HANG, OK) as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        killed = WebhookDelivery(context_of(pool, settings))
        await killed.deliver_due(killed._context)
        await wait_until_async(
            lambda: len(receiver.requests) == 1,
            deadline_seconds=10,
            what="the receiver has the request",
        )
        await stop_deliveries(killed)
        await deliveries.deliver_due(deliveries._context)
        assert not deliveries._tasks
        await make_due(pool, job_id)
        delivery = await until(deliveries, pool, job_id, lambda n: n.delivered_at)
    assert delivery.attempts == 2
    assert [p.headers["sluice-delivery"] for p in receiver.requests] == [
        f"{job_id}-1",
        f"{job_id}-2",
    ]


async def test_claims_do_not_wait_for_each_other(pool, settings):
    """A worker skips what another one is claiming."""
    job_ids = [await submit_ended_job(pool, settings, "https://shop.example/") for _ in range(2)]
    async with pool.acquire() as first, pool.acquire() as second, first.transaction():
        claimed = [
            await asyncio.wait_for(stored.claim_due(connection, busy=[], lease_seconds=30), 10)
            for connection in (first, second, second)
        ]
    assert [webhook and webhook.job.job_id for webhook in claimed] == [*job_ids, None]


@pytest.mark.parametrize("delivered_by", [0, 1])
async def test_a_delivered_webhook_stays_delivered(pool, settings, delivered_by):
    """A webhook counts as delivered, whether its first attempt succeeded or the one that replaced
    it. Later reports of either attempt change nothing.
    """
    job_id = await submit_ended_job(pool, settings, "https://shop.example/")
    async with pool.acquire() as connection:
        attempts = [await stored.claim_due(connection, busy=[], lease_seconds=0) for _ in range(2)]
        await stored.mark_delivered(connection, attempts[delivered_by])
        for attempt in attempts:
            await stored.mark_failed(connection, attempt, error="late", delay_seconds=0)
            await stored.mark_failed(connection, attempt, error="late", delay_seconds=None)
        assert await stored.claim_due(connection, busy=[], lease_seconds=0) is None
    delivery = await get_delivery(pool, job_id)
    assert (delivery.attempts, delivery.error, delivery.abandoned_at) == (2, None, None)
    assert "shop.example" not in repr(attempts)


async def test_an_earlier_failure_does_not_undo_a_later_attempt(pool, settings):
    """A late success counts, even if another worker has abandoned the webhook."""
    job_id = await submit_ended_job(pool, settings, "https://shop.example/")
    async with pool.acquire() as connection:
        first, second = [
            await stored.claim_due(connection, busy=[], lease_seconds=0) for _ in range(2)
        ]
        await stored.mark_failed(connection, first, error="late", delay_seconds=None)
        assert (await get_delivery(pool, job_id)).abandoned_at is None
        await stored.mark_failed(connection, second, error="gone", delay_seconds=None)
        assert (await get_delivery(pool, job_id)).abandoned_at
        await stored.mark_delivered(connection, first)
    delivery = await get_delivery(pool, job_id)
    assert (delivery.error, delivery.abandoned_at, delivery.delivered_at is None) == (
        None,
        None,
        False,
    )


async def test_nothing_is_delivered_without_a_signing_key(pool, settings):
    """Without a key the webhook stays due for another worker. The worker logs this once, if any is
    due.
    """
    keyless = settings.model_copy(update={"signing_keys": None})
    deliveries = WebhookDelivery(context_of(pool, keyless))
    with capture_logs() as logs:
        await deliveries.deliver_due(deliveries._context)
        assert not logs
        async with run_scripted_receiver(OK) as receiver:
            job_id = await submit_ended_job(pool, settings, receiver.url)
            logs.clear()
            for _ in range(3):
                await deliveries.deliver_due(deliveries._context)
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("webhook.withheld", "warning")
    ]
    assert (await get_delivery(pool, job_id)).attempts == 0


async def test_no_log_line_contains_the_url(pool, settings, deliveries):
    """Failures and successes are logged without the URL and its secrets."""
    async with run_scripted_receiver(answer(503), OK) as receiver:
        with capture_logs() as logs:
            job_id = await submit_ended_job(pool, settings, receiver.url)
            await until(deliveries, pool, job_id, lambda n: n.error)
            await make_due(pool, job_id)
            await until(deliveries, pool, job_id, lambda n: n.delivered_at)
    logged = [line for line in logs if line["event"].startswith("webhook.")]
    assert [line["event"] for line in logged] == ["webhook.failed", "webhook.delivered"]
    assert [line["http_status"] for line in logged] == [503, 200]
    assert "hush" not in str(logs)
    assert str(receiver.port) not in str(logs)


async def test_nothing_is_sent_to_a_private_address(pool, settings, deliveries):
    """Unless private webhooks are allowed, a name of this machine is never contacted."""
    public = settings.model_copy(update={"allow_private_webhooks": False})
    guarded = WebhookDelivery(context_of(pool, public))
    async with run_scripted_receiver(OK) as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        # Only the name `localhost` is certain to lead to this machine.
        job_id = await submit_ended_job(pool, settings, url)
        delivery = await until(guarded, pool, job_id, lambda n: n.error)
        assert delivery.error == describe_failure(None, NotPublicError())
        with pytest.raises(InvalidRequest, match="is not on the public"):
            await submit(pool, public, request_with_webhook(receiver.url))
        with pytest.raises(InvalidRequest, match="is not on the public"):
            await submit(pool, public, request_with_webhook(url))
    assert receiver.connections == 0
    await stop_deliveries(guarded)


@pytest.mark.parametrize("host", ["nobody.invalid", "x..example", "localhost:22", "127.0.0.1"])
async def test_private_and_unknown_hosts_give_the_same_error(pool, settings, deliveries, host):
    """Neither the stored error nor the log discloses which internal names exist."""
    public = settings.model_copy(update={"allow_private_webhooks": False})
    guarded = WebhookDelivery(context_of(pool, public))
    with capture_logs() as logs:
        job_id = await submit_ended_job(pool, settings, f"http://{host}/")
        delivery = await until(guarded, pool, job_id, lambda n: n.error)
    assert delivery.error == describe_failure(None, NotPublicError())
    (line,) = [line for line in logs if line["event"] == "webhook.failed"]
    assert line["error"] == "NotPublicError"
    await stop_deliveries(guarded)


@pytest.mark.parametrize("interim", [b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 200 OK\r\nx:"])
async def test_an_endless_head_is_an_error(pool, settings, deliveries, interim):
    """Reading stops at a limit, for endless interim responses and for an endless line."""
    endless = interim + (interim if interim.endswith(b"\n") else b"x") * 100_000
    async with run_scripted_receiver(endless) as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        delivery = await until(deliveries, pool, job_id, lambda n: n.error)
    assert delivery.error == describe_failure(None, ResponseTooLargeError())


async def test_interim_responses_are_skipped(pool, settings, deliveries):
    """A delivery succeeds after interim responses, as slow receivers send them."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" * 3
    async with run_scripted_receiver(interim + answer(204)) as receiver:
        job_id = await submit_ended_job(pool, settings, receiver.url)
        await until(deliveries, pool, job_id, lambda n: n.delivered_at)
