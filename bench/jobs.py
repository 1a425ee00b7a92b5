"""Sluice's own jobs: their requests, and waiting for their end."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg

from bench.effects import sql
from producers.submit import submit
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.kit.submitting import EVIDENCE


def job_request(account: str, action: str, fields: Sequence[int], *contacts: int) -> JobRequest:
    """Return a request for a job over these contacts, or over all of the account."""
    return JobRequest.model_validate(
        {
            "account": account,
            "action": action,
            "selection": Selection(contacts=contacts) if contacts else Selection(all=True),
            "fields": [f"email{number}" for number in fields],
            "evidence": EVIDENCE if action == "opt_in" else None,
            "requested_by": "the benchmark",
        }
    )


async def run_job(pool: asyncpg.Pool, settings: Settings, request: JobRequest) -> int:
    """Submit the job and wait until it has completed. Return its id."""
    submitted = await submit(pool, settings, request)
    await wait_for_completion(pool, submitted.job_id)
    return submitted.job_id


async def wait_for_completion(pool: asyncpg.Pool, job_id: int) -> None:
    """Return when the job has completed. Raise RuntimeError if it ended otherwise.

    Poll intervals grow with the elapsed time, so that they are short for a short job.
    """
    began = time.perf_counter()
    while True:
        async with pool.acquire() as connection:
            state = await sql.job_state(connection, job_id=job_id)
        if state == "completed":
            return
        if state not in {"planning", "running"}:
            raise RuntimeError(f"Job {job_id} is {state}.")
        passed = time.perf_counter() - began
        await asyncio.sleep(min(0.03, max(0.002, passed / 30)))
