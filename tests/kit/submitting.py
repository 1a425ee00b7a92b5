"""Handing jobs in at the doors that people use."""

import io
from typing import Any

from engine.planner import plan_job
from producers.imports import submit_import
from producers.submit import submit
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
    """An opt-out of a new account of so many contacts, planned with a chunk for each of them."""
    await fill_large_account(pool, await make_account(pool, account), contacts)
    request = JobRequest(
        account=account, action="opt_out", selection=Selection(all=True), requested_by="test"
    )
    submitted = await submit(pool, settings, request)
    async with pool.acquire() as connection:
        await plan_job(
            connection, submitted.account_id, submitted.job_id, chunk_size=1, max_lanes=lanes
        )
    return submitted.job_id


def selection_arguments(what, fields) -> dict[str, Any]:
    """The part of a request that says what it selects: contacts in fields, or addresses."""
    if fields == [LISTED_ADDRESS_FIELD]:
        return {"selection": Selection(addresses=tuple(what))}
    return {
        "selection": Selection(contacts=tuple(what)),
        "fields": tuple(FIELD_NAMES[n] for n in fields),
    }


async def submit_job(pool, settings, account, action, what, fields, params) -> int:
    """Hand a job in at the door that its action has."""
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
