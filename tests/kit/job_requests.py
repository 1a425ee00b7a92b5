"""Submit jobs over whole accounts, and wait for their states."""

import asyncpg

from producers.submit import submit
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.kit.submitting import EVIDENCE
from tests.kit.waiting import wait_until_async

FAST_RECOVERY = {"SWEEP_SECONDS": "0.2", "STALLED_AFTER_SECONDS": "0.5", "RETRY_SECONDS": "0.02"}
"""Workers that find jobs without a message quickly, and hardly wait between attempts."""


async def submit_account_job(
    pool: asyncpg.Pool, settings: Settings, account: str, action: str, *fields: str
) -> int:
    """Submit a job over all contacts, by default in two fields; return its id."""
    request = JobRequest(
        account=account,
        action=action,
        selection=Selection(all=True),
        fields=fields or ("email1", "email2"),
        evidence=EVIDENCE if action == "opt_in" else None,
        requested_by="test",
    )
    return (await submit(pool, settings, request)).job_id


async def wait_for_state(
    pool: asyncpg.Pool, job_id: int, state: str, *, deadline: float = 60
) -> None:
    """Wait until the job is in this state; fail after `deadline` seconds."""

    async def there() -> bool:
        return await pool.fetchval("select state = $2 from jobs where id = $1", job_id, state)

    await wait_until_async(there, deadline_seconds=deadline, what=f"job {job_id} is {state}")
