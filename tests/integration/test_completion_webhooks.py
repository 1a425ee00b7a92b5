"""Who asked to be told of a job's end is told, signed, at least once, and keeps nobody waiting."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from typing import Any, cast

import asyncpg
import httpcore
import pytest
from structlog.testing import capture_logs

from db import webhook_deliveries as stored
from producers.accounts import create_account
from producers.control import cancel
from producers.invalid_request import parse_request
from producers.submit import submit
from runtime.settings import Settings
from runtime.signing import signature, webhook_secret
from schemas.errors import IdempotencyConflict, InvalidRequest
from tests.kit.factories import account_of, fill_large_account
from tests.kit.in_process import InProcessRunner
from tests.kit.receiver import HANG, answer, receiver
from tests.kit.waiting import wait_until_async
from workers import webhook_client
from workers.context import WorkerContext
from workers.server_outages import Outages
from workers.webhook_client import NotPublicError, PublicBackend, ResponseTooLargeError
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
    """As everywhere, but that notices may go to this machine."""
    return settings.model_copy(update={"allow_private_webhooks": True})


def context_of(pool: asyncpg.Pool, settings: Settings) -> WorkerContext:
    """Make a worker's context without a queue."""
    context = WorkerContext(settings, cast("Any", None), "test")
    context.use_pool(pool)
    return context


@pytest.fixture
async def notices(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[WebhookDelivery]:
    """What a worker process has, to be told when to look."""
    made = WebhookDelivery(context_of(pool, settings), Outages("test"))
    yield made
    await ended(made)


async def ended(notices: WebhookDelivery) -> None:
    """Stop the deliveries, and wait for those in progress."""
    lanes = list(notices._tasks)
    notices.stop()
    await asyncio.gather(*lanes, return_exceptions=True)


def request(url: str | None, **changes):
    """Return an opt-out of all contacts with this completion URL."""
    return parse_request(
        {
            "action": "opt_out",
            "selection": {"all": True},
            "requested_by": "a service",
            "completion_url": url,
            **changes,
        }
    )


async def ended_job(pool, settings, url, **changes) -> int:
    """A job that has ended, by being cancelled."""
    job_id = (await submit(pool, settings, request(url, **changes))).job_id
    await cancel(pool, settings, None, job_id)
    return job_id


async def get_delivery(pool: asyncpg.Pool, job_id: int) -> stored.Delivery:
    """Return how far the job's delivery is."""
    async with pool.acquire() as connection:
        found = await stored.get_delivery(connection, await account_of(pool, job_id), job_id)
    assert found is not None
    return found


async def until(
    notices: WebhookDelivery,
    pool: asyncpg.Pool,
    job_id: int,
    met: Callable[[stored.Delivery], object],
) -> stored.Delivery:
    """Look again and again, as a worker does each second, until the notice is so."""

    async def look() -> stored.Delivery | None:
        await notices.deliver_due(notices._context)
        found = await get_delivery(pool, job_id)
        return found if met(found) else None

    found = await wait_until_async(look, deadline_seconds=20, what=f"the notice of {job_id} is so")
    assert found is not None
    return found


async def make_due(pool: asyncpg.Pool, job_id: int) -> None:
    """Make the job's next delivery due now, so that the test need not wait."""
    await pool.execute(
        "update webhook_deliveries set due_at = clock_timestamp() where job_id = $1", job_id
    )


async def one_round(notices: WebhookDelivery) -> None:
    """Look once, and wait until all that was due was tried."""
    await notices.deliver_due(notices._context)
    await asyncio.gather(*notices._tasks)


async def test_the_end_is_told_with_counts_and_a_signature(pool, settings, notices):
    """What a receiver gets is what the job is, and is signed by the account's secret."""
    await fill_large_account(pool, 1, 20)
    async with receiver(OK) as there:
        job_id = (await submit(pool, settings, request(there.url, correlation_id="c7"))).job_id
        await InProcessRunner(pool, settings, chunk_size=7, parallel=1).work(job_id)
        now = await until(notices, pool, job_id, lambda n: n.delivered_at)
    assert (now.attempts, now.abandoned_at, now.error) == (1, None, None)
    (posted,) = there.requests
    assert posted.line == "POST /ended?token=hush HTTP/1.1"
    told = json.loads(posted.body)
    row = dict(await pool.fetchrow("select * from jobs where id = $1", job_id))
    assert row["applied"] > 0
    assert told["counts"] == {name: row[name] for name in told["counts"]}
    assert told["counts"].keys() >= {"selected", "applied", "unchanged", "rejected", "empty"}
    rest = {key: told[key] for key in told.keys() - {"counts", "reasons"}}
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
    assert posted.headers["host"] == f"127.0.0.1:{there.port}"


async def test_nobody_is_told_before_the_end(pool, settings, notices):
    """The notice of a job that runs is not due, whoever looks."""
    async with receiver(OK) as there:
        running = (await submit(pool, settings, request(there.url))).job_id
        over = await ended_job(pool, settings, there.url)
        await until(notices, pool, over, lambda n: n.delivered_at)
        assert (await get_delivery(pool, running)).attempts == 0
    assert len(there.requests) == 1


async def test_a_notice_that_was_taken_does_not_come_again(pool, settings, notices):
    """However often workers look."""
    async with receiver(OK) as there:
        job_id = await ended_job(pool, settings, there.url)
        await until(notices, pool, job_id, lambda n: n.delivered_at)
        await make_due(pool, job_id)
        await notices.deliver_due(notices._context)
        assert not notices._tasks
    assert len(there.requests) == 1


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_what_is_not_taken_comes_again(pool, settings, notices, status):
    """After a wait; a redirect is not followed, and is no success either."""
    async with receiver(OK) as elsewhere:
        moved = answer(status, f"Location: {elsewhere.url}")
        async with receiver(moved, OK) as there:
            job_id = await ended_job(pool, settings, there.url)
            failed = await until(notices, pool, job_id, lambda n: n.error)
            assert failed.error == f"The receiver answered {status}."
            wait = await pool.fetchval(
                "select extract(epoch from due_at - clock_timestamp())::float8"
                " from webhook_deliveries where job_id = $1",
                job_id,
            )
            assert wait < 1.3
            await make_due(pool, job_id)
            now = await until(notices, pool, job_id, lambda n: n.delivered_at)
    assert (now.attempts, now.error) == (2, None)
    assert [p.headers["sluice-delivery"] for p in there.requests] == [f"{job_id}-1", f"{job_id}-2"]
    assert not elsewhere.requests


async def test_410_ends_it_at_once(pool, settings, notices):
    """The receiver has said that it wants no more."""
    async with receiver(answer(410)) as there:
        job_id = await ended_job(pool, settings, there.url)
        with capture_logs() as logs:
            now = await until(notices, pool, job_id, lambda n: n.abandoned_at)
    assert (now.attempts, now.delivered_at, len(there.requests)) == (1, None, 1)
    (line,) = [line for line in logs if line["event"].startswith("webhook.")]
    assert (line["event"], line["http_status"], line["attempt"]) == ("webhook.abandoned", 410, 1)


async def test_it_is_given_up_after_the_last_attempt(pool, settings, notices):
    """And no sooner; then nobody is asked any more."""
    async with receiver(answer(500)) as there:
        job_id = await ended_job(pool, settings, there.url)
        for attempt in range(1, MAX_ATTEMPTS):
            await make_due(pool, job_id)
            await one_round(notices)
            now = await get_delivery(pool, job_id)
            assert (now.attempts, now.abandoned_at) == (attempt, None)
        for _ in range(2):
            await make_due(pool, job_id)
            await one_round(notices)
            now = await get_delivery(pool, job_id)
            assert (now.attempts, now.error) == (MAX_ATTEMPTS, "The receiver answered 500.")
            assert now.abandoned_at
    assert len(there.requests) == MAX_ATTEMPTS


def test_waits_grow_up_to_an_hour():
    """1, 4, 16 seconds and so on, give or take a fifth; some six hours in all."""
    for attempt, seconds in ((1, 1), (2, 4), (3, 16), (6, 1024), (7, 3600), (99, 3600)):
        assert 0.8 * seconds <= retry_seconds(attempt) <= 1.2 * seconds
    assert len({retry_seconds(3) for _ in range(9)}) > 1


async def test_a_receiver_that_hangs_is_left(pool, settings, notices, monkeypatch):
    """After the time that one may take; the attempt counts."""
    monkeypatch.setattr(webhook_client, "TOTAL_TIMEOUT_SECONDS", 0.2)
    async with receiver(HANG) as there:
        job_id = await ended_job(pool, settings, there.url)
        now = await until(notices, pool, job_id, lambda n: n.error)
    assert now.error == "The receiver did not answer within 10 seconds."
    assert now.attempts == 1


async def test_an_answer_without_end_is_not_waited_for(pool, settings, notices):
    """Its head says that the notice was taken, and the rest is nobody's business."""
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nnever\r\n" * 9
    async with receiver(endless) as there:
        job_id = await ended_job(pool, settings, there.url)
        await until(notices, pool, job_id, lambda n: n.delivered_at)


async def test_a_receiver_that_talks_nonsense_fails(pool, settings, notices):
    """As one that refuses does."""
    async with receiver(b"220 mail.example ESMTP\r\n") as there:
        job_id = await ended_job(pool, settings, there.url)
        now = await until(notices, pool, job_id, lambda n: n.error)
        assert "RemoteProtocolError" in (now.error or "")
    await make_due(pool, job_id)
    now = await until(notices, pool, job_id, lambda n: n.attempts == 2 and n.error != now.error)
    assert now.error == "The receiver could not be reached (ConnectionRefusedError)."


async def test_a_slow_receiver_does_not_hold_up_the_rest(pool, settings, notices):
    """However many notices it has coming, before those of another account."""
    await create_account(pool, "other")
    async with receiver(HANG) as slow, receiver(OK) as quick:
        for _ in range(12):
            await ended_job(pool, settings, slow.url)
        theirs = await ended_job(pool, settings, quick.url, account="other")
        await until(notices, pool, theirs, lambda n: n.delivered_at)
        assert slow.connections <= MAX_DELIVERIES_PER_ACCOUNT
        await ended(notices)


async def test_no_connection_is_held_meanwhile(pool, settings, notices):
    """While receivers are waited for, all of the pool is there for the work."""
    async with receiver(HANG) as slow:
        await ended_job(pool, settings, slow.url)
        await notices.deliver_due(notices._context)
        await wait_until_async(
            lambda: len(slow.requests) == 1, deadline_seconds=10, what="the receiver was asked"
        )
        assert pool.get_idle_size() == pool.get_size()
        assert not await pool.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and state like 'idle in transaction%'"
        )
        await ended(notices)


async def test_each_is_delivered_by_one(pool, settings, notices):
    """Several processes that look at once do not tell the same twice."""
    second = WebhookDelivery(context_of(pool, settings), Outages("second"))
    async with receiver(OK) as there:
        job_ids = [await ended_job(pool, settings, there.url) for _ in range(10)]
        await asyncio.gather(
            *(
                until(look, pool, job_id, lambda n: n.delivered_at)
                for job_id in job_ids
                for look in (notices, second)
            )
        )
    assert sorted(json.loads(p.body)["job"] for p in there.requests) == job_ids
    await ended(second)


async def test_what_a_killed_worker_had_in_hand_comes_again(pool, settings, notices):
    """When its lease is over, and not before: at least once."""
    async with receiver(HANG, OK) as there:
        job_id = await ended_job(pool, settings, there.url)
        killed = WebhookDelivery(context_of(pool, settings), Outages("killed"))
        await killed.deliver_due(killed._context)
        await wait_until_async(
            lambda: len(there.requests) == 1, deadline_seconds=10, what="the receiver was asked"
        )
        await ended(killed)
        await notices.deliver_due(notices._context)
        assert not notices._tasks
        await make_due(pool, job_id)
        now = await until(notices, pool, job_id, lambda n: n.delivered_at)
    assert now.attempts == 2
    assert [p.headers["sluice-delivery"] for p in there.requests] == [f"{job_id}-1", f"{job_id}-2"]


async def test_a_claimer_does_not_wait_for_another(pool, settings):
    """What one is about to claim the next one passes over."""
    job_ids = [await ended_job(pool, settings, "https://shop.example/") for _ in range(2)]
    async with pool.acquire() as first, pool.acquire() as second, first.transaction():
        claimed = [
            await asyncio.wait_for(stored.claim_due(connection, busy=[], lease_seconds=30), 10)
            for connection in (first, second, second)
        ]
    assert [notice and notice.job_id for notice in claimed] == [*job_ids, None]


@pytest.mark.parametrize("taken_by", [0, 1])
async def test_a_notice_that_was_taken_stays_so(pool, settings, taken_by):
    """Whether by the attempt of a process that was stopped for a while, or by the one after it:
    what the other says then changes nothing.
    """
    job_id = await ended_job(pool, settings, "https://shop.example/")
    async with pool.acquire() as connection:
        attempts = [await stored.claim_due(connection, busy=[], lease_seconds=0) for _ in range(2)]
        await stored.mark_delivered(connection, attempts[taken_by])
        for attempt in attempts:
            await stored.mark_failed(connection, attempt, error="late", delay_seconds=0)
            await stored.mark_abandoned(connection, attempt, error="late")
        assert await stored.claim_due(connection, busy=[], lease_seconds=0) is None
    now = await get_delivery(pool, job_id)
    assert (now.attempts, now.error, now.abandoned_at) == (2, None, None)
    assert "shop.example" not in repr(attempts)


async def test_an_earlier_failure_does_not_count_against_a_later_attempt(pool, settings):
    """And a notice that was taken late is taken, though others had given it up."""
    job_id = await ended_job(pool, settings, "https://shop.example/")
    async with pool.acquire() as connection:
        first, second = [
            await stored.claim_due(connection, busy=[], lease_seconds=0) for _ in range(2)
        ]
        await stored.mark_abandoned(connection, first, error="late")
        assert (await get_delivery(pool, job_id)).abandoned_at is None
        await stored.mark_abandoned(connection, second, error="gone")
        assert (await get_delivery(pool, job_id)).abandoned_at
        await stored.mark_delivered(connection, first)
    now = await get_delivery(pool, job_id)
    assert (now.error, now.abandoned_at, now.delivered_at is None) == (None, None, False)


async def test_without_a_signing_key_none_is_delivered(pool, settings):
    """It waits for a worker that has one; this one says so, once, when there is cause to."""
    keyless = settings.model_copy(update={"signing_keys": None})
    notices = WebhookDelivery(context_of(pool, keyless), Outages("test"))
    with capture_logs() as logs:
        await notices.deliver_due(notices._context)
        assert not logs
        async with receiver(OK) as there:
            job_id = await ended_job(pool, settings, there.url)
            logs.clear()
            for _ in range(3):
                await notices.deliver_due(notices._context)
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("webhook.withheld", "warning")
    ]
    assert (await get_delivery(pool, job_id)).attempts == 0


async def test_no_line_tells_the_url(pool, settings, notices):
    """Nor what it carries; but for that, a failure and a success are told."""
    async with receiver(answer(503), OK) as there:
        with capture_logs() as logs:
            job_id = await ended_job(pool, settings, there.url)
            await until(notices, pool, job_id, lambda n: n.error)
            await make_due(pool, job_id)
            await until(notices, pool, job_id, lambda n: n.delivered_at)
    told = [line for line in logs if line["event"].startswith("webhook.")]
    assert [line["event"] for line in told] == ["webhook.failed", "webhook.delivered"]
    assert [line["http_status"] for line in told] == [503, 200]
    assert "hush" not in str(logs)
    assert str(there.port) not in str(logs)


async def test_a_private_address_is_not_asked(pool, settings, notices):
    """Where notices may not be private, a name that leads to this machine gets none."""
    public = settings.model_copy(update={"allow_private_webhooks": False})
    guarded = WebhookDelivery(context_of(pool, public), Outages("test"))
    async with receiver(OK) as there:
        url = there.url.replace("127.0.0.1", "localhost")
        # Names leave no trace of where they lead; `localhost` is the one that is known.
        job_id = await ended_job(pool, settings, url)
        now = await until(guarded, pool, job_id, lambda n: n.error)
        assert now.error == describe_failure(None, NotPublicError())
        with pytest.raises(InvalidRequest, match="is not on the public"):
            await submit(pool, public, request(there.url))
        with pytest.raises(InvalidRequest, match="is not on the public"):
            await submit(pool, public, request(url))
    assert there.connections == 0
    await ended(guarded)


@pytest.mark.parametrize("host", ["nobody.invalid", "x..example", "localhost:22", "127.0.0.1"])
async def test_what_is_inside_and_what_is_nowhere_is_told_alike(pool, settings, notices, host):
    """In the notice and in the log: nobody learns which names there are."""
    public = settings.model_copy(update={"allow_private_webhooks": False})
    guarded = WebhookDelivery(context_of(pool, public), Outages("test"))
    with capture_logs() as logs:
        job_id = await ended_job(pool, settings, f"http://{host}/")
        now = await until(guarded, pool, job_id, lambda n: n.error)
    assert now.error == describe_failure(None, NotPublicError())
    (line,) = [line for line in logs if line["event"] == "webhook.failed"]
    assert line["error"] == "NotPublicError"
    await ended(guarded)


@pytest.mark.parametrize("interim", [b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 200 OK\r\nx:"])
async def test_of_a_head_without_end_no_more_is_read(pool, settings, notices, interim):
    """Be it interim answers, one after the other, or one line that goes on."""
    endless = interim + (interim if interim.endswith(b"\n") else b"x") * 100_000
    async with receiver(endless) as there:
        job_id = await ended_job(pool, settings, there.url)
        now = await until(notices, pool, job_id, lambda n: n.error)
    assert now.error == describe_failure(None, ResponseTooLargeError())


async def test_interim_answers_may_come_before_the_answer(pool, settings, notices):
    """As a slow receiver sends them."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" * 3
    async with receiver(interim + answer(204)) as there:
        job_id = await ended_job(pool, settings, there.url)
        await until(notices, pool, job_id, lambda n: n.delivered_at)


class Connected(Exception):
    """A connection was about to be made."""


async def test_the_address_that_was_looked_at_is_the_one_connected_to(monkeypatch):
    """A name is asked for once: that it leads inside the next time gains nothing."""
    answers = [["10.0.0.7", "93.184.216.34", "::1"], ["127.0.0.1"]]
    asked, connected = [], []

    async def getaddrinfo(host, port, **_):
        asked.append(host)
        return [(0, 0, 0, "", (text, port)) for text in answers.pop(0)]

    async def connect_tcp(host, port, **_):
        connected.append((host, port))
        raise Connected

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    backend = PublicBackend(allow_private=False)
    monkeypatch.setattr(backend._backend, "connect_tcp", connect_tcp)
    with pytest.raises(Connected):
        await backend.connect_tcp("rebinding.example", 443)
    assert (asked, connected) == (["rebinding.example"], [("93.184.216.34", 443)])
    with pytest.raises(NotPublicError):
        await backend.connect_tcp("rebinding.example", 443)
    assert len(connected) == 1


async def test_another_address_is_tried_where_one_does_not_answer(monkeypatch):
    """A name's addresses are tried in turn; the last one's error is that of all."""
    tried = []

    async def getaddrinfo(_host, port, **_):
        return [(0, 0, 0, "", (text, port)) for text in ("2606:4700::1", "93.184.216.34")]

    async def connect_tcp(host, _port, **_):
        tried.append(host)
        raise httpcore.ConnectError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    backend = PublicBackend(allow_private=False)
    monkeypatch.setattr(backend._backend, "connect_tcp", connect_tcp)
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("two.example", 443)
    assert tried == ["2606:4700::1", "93.184.216.34"]
    assert not any(ip_address(text).is_private for text in tried)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "//example.com/",
        "example.com",
        "https://user:secret@example.com/",
        "https://user@example.com/",
        "https://example.com/#part",
        "https://example.com/" + "x" * 2000,
        "https://example.com/" + "ü" * 700,
        "http://example.com\\@127.0.0.1/",
        "https://example.com\\x",
        "https://example.com/a\r\nX: y",
        "https://exam\tple.com/",
        " https://example.com/",
        "https://example.com/a b",
        "",
    ],
)
def test_what_is_no_url_to_post_to_is_refused(url):
    """With the name of the field, before anything is stored."""
    with pytest.raises(InvalidRequest, match="`completion_url`: "):
        request(url)


async def test_the_url_is_part_of_what_a_key_stands_for(pool, settings):
    """With the same URL it is the same request; without, or with another, it is not."""
    first = await submit(pool, settings, request("https://a.example/x", idempotency_key="k"))
    again = await submit(pool, settings, request("https://A.example/x", idempotency_key="k"))
    assert (again.job_id, again.created) == (first.job_id, False)
    for url in ("https://a.example/y", None):
        with pytest.raises(IdempotencyConflict):
            await submit(pool, settings, request(url, idempotency_key="k"))


async def test_a_request_without_a_url_has_the_hash_that_it_always_had(pool, settings):
    """Keys that stand for requests of before go on standing for them."""
    plain = (await submit(pool, settings, request(None))).job_id
    assert await pool.fetchval("select request_hash from jobs where id = $1", plain) == (
        "230e15afa24a044a5a4d69580c86bc9d95a70a5f4cf871e8dd7d5a4d9e63e6b3"
    )
    async with pool.acquire() as connection:
        assert await stored.get_delivery(connection, await account_of(pool, plain), plain) is None
