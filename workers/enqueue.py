"""Enqueueing a job that was stored or resumed, from processes that are not workers."""

from functools import lru_cache
from typing import TYPE_CHECKING

from runtime.outages import Outage, queue_outage
from runtime.settings import Settings
from schemas.job_key import JobKey

if TYPE_CHECKING:
    from workers.job_queue import JobQueue


async def enqueue_job(settings: Settings, job: JobKey, *, action: str) -> bool:
    """Enqueue a job that was just stored or resumed.

    Return False if Redis does not answer. The job is stored, and the sweeper finds it in seconds.
    """
    return await _job_queue(settings).enqueue_start(job, action=action)


def get_queue_outage(settings: Settings) -> Outage:
    """Return this process's tracker of the outages of its Redis."""
    return _job_queue(settings).outage


def _job_queue(settings: Settings) -> "JobQueue":
    assert settings.redis_url is not None
    return _make_job_queue(settings.redis_url, settings.queue_namespace)


@lru_cache(maxsize=8)
def _make_job_queue(redis_url: str, namespace: str) -> "JobQueue":
    """Make this process's queue in a Redis; cached, for its connections and known outages."""
    # Most commands enqueue nothing. These take a seventh of the time in which a command starts.
    from workers.broker import make_client_broker  # noqa: PLC0415
    from workers.job_queue import JobQueue  # noqa: PLC0415

    return JobQueue(make_client_broker(redis_url, namespace), queue_outage())
