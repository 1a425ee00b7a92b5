"""One recipient's opt-out from a service that has a key: applied before it is answered."""

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, Field

from db import jobs, reading
from producers.http.access import OptOutsWriter
from producers.http.here import CorrelationId, HereDep
from producers.opt_outs import opt_out_now
from producers.recipient_acts import RecipientAct, SourceName, event_key, request_of
from schemas.addresses import identify
from schemas.requests import ShortText
from schemas.statuses import Status

router = APIRouter(tags=["opt-outs"])


class OptOutGiven(RecipientAct):
    """One recipient's opt-out, as a service of the account's hands it in."""

    source: SourceName = Field(description="Where it happened, in one word: shop, or newsletter.")
    event_id: ShortText | None = Field(
        None,
        description="Your own id of what happened. With it, telling it again changes nothing.",
    )


class OptOutDone(BaseModel):
    """What became of it. `status` is that of the address now; an address may be more strongly
    opted out than this asked for. `reached` counts further addresses of the same people that it
    spread to. Where `applied` is false the opt-out is stored, workers begin with it before all
    other work, and `reached` is not known yet.
    """

    job: int
    applied: bool
    created: bool = Field(description="False where an earlier request told of this event.")
    status: Status | None
    reached: int | None


@router.post(
    "/v1/opt-outs",
    responses={202: {"model": OptOutDone, "description": "Stored, and about to be applied"}},
)
async def opt_out(
    given: OptOutGiven,
    here: HereDep,
    caller: OptOutsWriter,
    correlation_id: CorrelationId,
    response: Response,
) -> OptOutDone:
    """Opt an address out, and the other addresses of the same people; known here or not.

    Once this has answered, with 200 or with 202, no bulk opt-in makes any of them marketable. The
    same `event_id` of the same `source` is one event: with another body it is refused with 409.
    """
    request = request_of(
        account=caller.account,
        addresses=[given.address],
        kind=given.kind,
        source=given.source,
        key=given.event_id and event_key("opt-out", given.source, event_id=given.event_id),
        requested_by=caller.key_name,
        correlation_id=correlation_id,
        occurred_at=given.occurred_at,
        note=given.note,
    )
    done = await opt_out_now(here.pool, here.settings, request)
    async with here.pool.acquire() as connection:
        job = await jobs.get_job(connection, done.job_id)
        address = await reading.address_now(
            connection,
            account_id=caller.account_id,
            match_key=identify(given.address).match_key,
        )
    if not done.applied:
        response.status_code = status.HTTP_202_ACCEPTED
    return OptOutDone(
        job=done.job_id,
        applied=done.applied,
        created=done.created,
        status=address and address.status,
        reached=job.propagated if job and done.applied else None,
    )
