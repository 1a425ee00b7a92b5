"""One recipient's opt-out from a service that has a key: applied before it is answered."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from db import address_history, jobs
from producers.immediate_opt_out import opt_out_address
from producers.invalid_request import refuse_unstorable, refused
from producers.keys import Caller
from producers.plausibility import doubtful_of, implausible_of
from producers.recipient_events import (
    RecipientAct,
    SourceName,
    event_key,
    known_address,
    request_of,
)
from schemas.addresses import doubt_about, identify
from schemas.errors import IdempotencyConflict, Mistake
from schemas.requests import ShortText
from schemas.statuses import Status
from web.auth import OptOutsWriter
from web.problems import (
    INVALID,
    KEY_REUSED,
    MALFORMED,
    TOO_LARGE,
    UNSUPPORTED,
    Problem,
    answers,
)
from web.request_body import body_schema, json_body
from web.request_notes import note_job
from web.state import Here, correlation_id_of, here_of

router = APIRouter(tags=["opt-outs"])


class OptOutGiven(RecipientAct):
    """One recipient's opt-out, as a service of the account's hands it in."""

    source: SourceName = Field(
        description="Where it happened, in one word.", examples=["preference-centre"]
    )
    event_id: ShortText | None = Field(
        None,
        description="Your own id of what happened. With it, telling it again changes nothing.",
        examples=["unsubscribe-4711"],
    )


class OptOutDone(BaseModel):
    """What became of it."""

    job: int = Field(description="The job that stands for it.")
    applied: bool = Field(
        description="False where it is stored, and workers begin with it before all other work."
    )
    created: bool = Field(description="False where an earlier request told of this event.")
    status: Status | None = Field(
        description="What the address is now: it may have been opted out more strongly before."
    )
    reached: int | None = Field(
        description="How many further addresses of the same people it spread to; null until it is"
        " applied."
    )


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": body_schema(OptOutGiven)}},
    }
}


@router.post(
    "/v1/opt-outs",
    operation_id="opt_out",
    summary="Opt an address out",
    response_description="It is applied, and where it spreads to as well.",
    responses={
        202: {"model": OptOutDone, "description": "It is stored, and about to be applied."},
        **answers(MALFORMED, UNSUPPORTED, TOO_LARGE, INVALID, KEY_REUSED),
    },
    openapi_extra=_BODY,
)
async def opt_out(request: Request, response: Response, caller: OptOutsWriter) -> OptOutDone:
    """Opt one recipient's address out, known to the account or not, and those it spreads to.

    Once this has answered with 200, no bulk job makes any of them marketable. After 202 that is so
    once the job has completed, which workers begin with before all other work. The same `event_id`
    of the same `source` is one event: told with another body it is refused (409).
    """
    here = here_of(request)
    given = await json_body(request, caller, OptOutGiven)
    refuse_unstorable("The opt-out", given.event_id)
    asked = request_of(
        account=caller.account,
        addresses=[given.address],
        kind=given.kind,
        source=given.source,
        key=given.event_id and event_key("opt-out", given.source, event_id=given.event_id),
        requested_by=caller.key_name,
        correlation_id=correlation_id_of(request),
        occurred_at=given.occurred_at,
        note=given.note,
    )
    await _require_meant(here, caller, given.address)
    try:
        done, status = await opt_out_address(here.pool, here.settings, asked, actor=caller.actor)
    except IdempotencyConflict:
        raise Problem(
            KEY_REUSED,
            "This event_id of this source stood for something else before; nothing was stored. What"
            " is new needs a new id.",
        ) from None
    note_job(done.job_id)
    told = OptOutDone(
        job=done.job_id,
        applied=done.applied,
        created=done.created,
        status=status,
        reached=done.reached,
    )
    if not done.applied:
        response.status_code = HTTPStatus.ACCEPTED
    return told if status else await _as_it_is_now(here, caller, given.address, told)


async def _require_meant(here: Here, caller: Caller, address: str) -> None:
    """Raise WrongInput for an address with which another one of the account is meant.

    Nearly all addresses are plain, and are not looked up.
    """
    identity = identify(known_address(address))
    if doubt_about(identity) is None:
        return
    async with here.pool.acquire() as connection:
        wrong = await implausible_of(connection, caller.account_id, doubtful_of([identity]))
    if wrong:
        raise refused("The opt-out", [Mistake("address", why) for _, why in wrong])


async def _as_it_is_now(here: Here, caller: Caller, address: str, told: OptOutDone) -> OptOutDone:
    """The answer with what another request has done, or the workers have yet to do."""
    async with here.pool.acquire() as connection:
        job = await jobs.get_job(connection, told.job)
        now = await address_history.address_now(
            connection, account_id=caller.account_id, match_key=identify(address).match_key
        )
    return told.model_copy(
        update={
            "status": now.status if now else None,
            "reached": job.propagated if job and told.applied else None,
        }
    )
