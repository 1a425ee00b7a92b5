"""Real worker processes tell of a job's end, and a receiver that hangs does not keep them."""

import asyncio
import json
import signal

from producers.invalid_request import parse_request
from producers.submit import submit
from tests.kit.factories import fill_large_account
from tests.kit.receiver import HANG, Receiver, answer, receiver
from tests.kit.waiting import wait_until_async


async def job_told_to(pool, settings, there: Receiver) -> int:
    """An opt-out of everyone, whose end is told there."""
    private = settings.model_copy(update={"allow_private_webhooks": True})
    request = parse_request(
        {
            "action": "opt_out",
            "selection": {"all": True},
            "requested_by": "test",
            "completion_url": there.url,
        }
    )
    return (await submit(pool, private, request)).job_id


def signing(settings) -> dict[str, str]:
    """Return the environment of processes that sign like this one and may post to 127.0.0.1."""
    return {
        "SIGNING_KEYS": settings.signing_keys.get_secret_value(),
        "ALLOW_PRIVATE_WEBHOOKS": "true",
    }


async def test_the_end_of_a_job_is_told(pool, settings, start_group):
    """By whichever worker looks first, and once; the log says so, and not where."""
    await fill_large_account(pool, 1, 100)
    async with receiver(answer(204)) as there:
        group = start_group(processes=2, **signing(settings))
        job_id = await job_told_to(pool, settings, there)
        await wait_until_async(
            lambda: pool.fetchval(
                "select delivered_at from webhook_deliveries where job_id = $1", job_id
            ),
            deadline_seconds=30,
            what="the notice was delivered",
        )
        (posted,) = there.requests
    told = json.loads(posted.body)
    assert (told["job"], told["state"]) == (job_id, "completed")
    await wait_until_async(
        lambda: '"webhook.delivered"' in "".join(group.lines()),
        deadline_seconds=10,
        what="the log says so",
    )
    assert "hush" not in "".join(group.lines())


async def test_a_receiver_that_hangs_does_not_keep_a_worker(pool, settings, start_group):
    """Told to end, it ends in time; the notice is left for the next one."""
    async with receiver(HANG) as there:
        group = start_group(**signing(settings))
        job_id = await job_told_to(pool, settings, there)
        await wait_until_async(
            lambda: len(there.requests) == 1, deadline_seconds=30, what="the receiver was asked"
        )
        group.signal_all(signal.SIGTERM)
        await asyncio.to_thread(group.wait_gone, deadline_seconds=8)
    assert '"worker.stopped"' in "".join(group.lines())
    row = await pool.fetchrow(
        "select attempts, delivered_at, abandoned_at from webhook_deliveries where job_id = $1",
        job_id,
    )
    assert tuple(row) == (1, None, None)
