"""Real worker processes deliver completion webhooks; a hanging receiver does not delay them."""

import asyncio
import json
import signal

from producers.invalid_request import parse_request
from producers.submit import submit
from tests.kit.factories import fill_large_account
from tests.kit.http_receiver import HANG, Receiver, answer, run_scripted_receiver
from tests.kit.waiting import wait_until_async


async def submit_job_with_webhook(pool, settings, receiver: Receiver) -> int:
    """Submit an opt-out of all contacts with this receiver; return the job's id."""
    private = settings.model_copy(update={"allow_private_webhooks": True})
    request = parse_request(
        {
            "action": "opt_out",
            "selection": {"all": True},
            "requested_by": "test",
            "completion_url": receiver.url,
        }
    )
    return (await submit(pool, private, request)).job_id


def signing(settings) -> dict[str, str]:
    """Return the environment of processes that sign like this one and may post to 127.0.0.1."""
    return {
        "SIGNING_KEYS": settings.signing_keys.get_secret_value(),
        "ALLOW_PRIVATE_WEBHOOKS": "true",
    }


async def test_a_completion_webhook_is_delivered(pool, settings, start_group):
    """One of the workers delivers it exactly once, and logs that without the URL."""
    await fill_large_account(pool, 1, 100)
    async with run_scripted_receiver(answer(204)) as receiver:
        group = start_group(processes=2, **signing(settings))
        job_id = await submit_job_with_webhook(pool, settings, receiver)
        await wait_until_async(
            lambda: pool.fetchval(
                "select delivered_at from webhook_deliveries where job_id = $1", job_id
            ),
            deadline_seconds=30,
            what="the webhook was delivered",
        )
        (posted,) = receiver.requests
    body = json.loads(posted.body)
    assert (body["job"], body["state"]) == (job_id, "completed")
    await wait_until_async(
        lambda: '"webhook.delivered"' in "".join(group.lines()),
        deadline_seconds=10,
        what="the delivery is logged",
    )
    assert "hush" not in "".join(group.lines())


async def test_a_hanging_receiver_does_not_delay_shutdown(pool, settings, start_group):
    """On SIGTERM a worker ends in time, and the webhook stays due for the next worker."""
    async with run_scripted_receiver(HANG) as receiver:
        group = start_group(**signing(settings))
        job_id = await submit_job_with_webhook(pool, settings, receiver)
        await wait_until_async(
            lambda: len(receiver.requests) == 1,
            deadline_seconds=30,
            what="the receiver got a request",
        )
        group.signal_all(signal.SIGTERM)
        await asyncio.to_thread(group.wait_gone, deadline_seconds=8)
    assert '"worker.stopped"' in "".join(group.lines())
    row = await pool.fetchrow(
        "select attempts, delivered_at, abandoned_at from webhook_deliveries where job_id = $1",
        job_id,
    )
    assert tuple(row) == (1, None, None)
