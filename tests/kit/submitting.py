"""Submit jobs through the functions that entry points use."""

import io
from typing import Any

from engine.planner import plan_job
from producers.imports import submit_import
from producers.invalid_request import parse_request
from producers.submit import submit
from schemas.job_key import JobKey
from schemas.requests import FIELD_NAMES, LISTED_ADDRESS_FIELD, JobRequest, Selection
from tests.kit.factories import fill_large_account, make_account

EVIDENCE = {
    "source": "verbal",
    "description": "asked at the counter, one by one",
    "collected_from": "2020-01-01",
    "collected_until": "2020-02-01",
    "attested_by": "the shop",
}


async def submit_planned_opt_out(pool, settings, account, *, contacts, lanes) -> int:
    """Submit and plan an opt-out of all contacts of a new account, with one contact a chunk."""
    await fill_large_account(pool, await make_account(pool, account), contacts)
    request = JobRequest(
        account=account, action="opt_out", selection=Selection(all=True), requested_by="test"
    )
    submitted = await submit(pool, settings, request)
    async with pool.acquire() as connection:
        await plan_job(
            connection,
            JobKey(submitted.account_id, submitted.job_id),
            chunk_size=1,
            max_lanes=lanes,
        )
    return submitted.job_id


def selection_arguments(what, fields) -> dict[str, Any]:
    """Return the arguments of a request that select contacts in fields, or addresses."""
    if fields == [LISTED_ADDRESS_FIELD]:
        return {"selection": Selection(addresses=tuple(what))}
    return {
        "selection": Selection(contacts=tuple(what)),
        "fields": tuple(FIELD_NAMES[n] for n in fields),
    }


async def submit_job(pool, settings, account, action, what, fields, params) -> int:
    """Submit a job through the function for its action; return its id."""
    if action == "import":
        done = await submit_import(
            pool,
            settings,
            file=io.BytesIO(what),
            account=account,
            permission=params["permission"],
            tag=None,
            mapping={},
            encoding="utf-8",
            requested_by="test",
        )
        return done.job_id
    request = JobRequest(
        account=account,
        action=action,
        **selection_arguments(what, fields),
        params=params,
        evidence=EVIDENCE if action == "opt_in" else None,
        requested_by="test",
    )
    return (await submit(pool, settings, request)).job_id


def request_with_webhook(url: str | None, **changes: Any) -> JobRequest:
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
