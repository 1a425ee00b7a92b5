"""One recipient's opt-out from a service that has a key: applied before it is answered."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from db import address_history, jobs
from producers.immediate_opt_out import opt_out_immediately
from producers.invalid_request import invalid_request, require_storable
from producers.keys import Caller
from producers.plausibility import find_doubtful, find_implausible
from producers.recipient_events import (
    RecipientEvent,
    SourceName,
    event_key,
    opt_out_request,
    require_address,
)
from schemas.addresses import find_correction, normalize_address
from schemas.errors import FieldError, IdempotencyConflict
from schemas.requests import ShortText
from schemas.statuses import Status
from web.auth import OptOutsWriter
from web.problems import (
    BODY_TOO_LARGE,
    IDEMPOTENCY_KEY_REUSED,
    INVALID,
    MALFORMED,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
    problem_responses,
)
from web.request_body import body_schema, read_json_body
from web.request_notes import note_job
from web.state import AppState, get_correlation_id, get_state

router = APIRouter(tags=["opt-outs"])


class OptOutRequest(RecipientEvent):
    """One recipient's opt-out, as a service of the account's hands it in."""

    source: SourceName = Field(
        description="Where it happened, in one word.", examples=["preference-centre"]
    )
    event_id: ShortText | None = Field(
        None,
        description="Your own id of what happened. With it, telling it again changes nothing.",
        examples=["unsubscribe-4711"],
    )


class OptOutResponse(BaseModel):
    """What became of it."""

    job_id: int = Field(description="The job that stands for it.")
    applied: bool = Field(
        description="False where it is stored, and workers begin with it before all other work."
    )
    created: bool = Field(description="False where an earlier request told of this event.")
    status: Status | None = Field(
        description="What the address is now: it may have been opted out more strongly before."
    )
    propagated: int | None = Field(
        description="To how many addresses of the same people it was propagated; null until it is"
        " applied."
    )


_BODY_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": body_schema(OptOutRequest)}},
    }
}


@router.post(
    "/v1/opt-outs",
    operation_id="opt_out",
    summary="Opt an address out",
    response_description="It is applied, and where it spreads to as well.",
    responses={
        202: {"model": OptOutResponse, "description": "It is stored, and about to be applied."},
        **problem_responses(
            MALFORMED, UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE, INVALID, IDEMPOTENCY_KEY_REUSED
        ),
    },
    openapi_extra=_BODY_OPENAPI,
)
async def opt_out(request: Request, response: Response, caller: OptOutsWriter) -> OptOutResponse:
    """Opt one recipient's address out, known to the account or not, and propagate that.

    Once this has answered with 200, no bulk job makes any of these addresses marketable. After 202,
    the same holds once the job has completed; workers do it before all other work. The same
    `event_id` of the same `source` is one event: sent with another body it is refused (409).
    """
    state = get_state(request)
    given = await read_json_body(request, caller, OptOutRequest)
    require_storable("The opt-out", given.event_id)
    asked = opt_out_request(
        account=caller.account,
        addresses=[given.address],
        kind=given.kind,
        source=given.source,
        key=given.event_id and event_key("opt-out", given.source, event_id=given.event_id),
        requested_by=caller.key_name,
        correlation_id=get_correlation_id(request),
        occurred_at=given.occurred_at,
        note=given.note,
    )
    await _require_plausible(state, caller, given.address)
    try:
        done = await opt_out_immediately(state.pool, state.settings, asked, actor=caller.actor)
    except IdempotencyConflict:
        raise Problem(
            IDEMPOTENCY_KEY_REUSED,
            "This event_id of this source stood for something else before; nothing was stored. What"
            " is new needs a new id.",
        ) from None
    note_job(done.job_id)
    told = OptOutResponse(
        job_id=done.job_id,
        applied=done.applied,
        created=done.created,
        status=done.status,
        propagated=done.propagated,
    )
    if not done.applied:
        response.status_code = HTTPStatus.ACCEPTED
    return told if done.status else await _refresh_response(state, caller, given.address, told)


async def _require_plausible(state: AppState, caller: Caller, address: str) -> None:
    """Raise InvalidRequest for an address with which another one of the account is meant.

    Nearly all addresses are plain, and are not looked up.
    """
    identity = normalize_address(require_address(address))
    if find_correction(identity) is None:
        return
    async with state.pool.acquire() as connection:
        wrong = await find_implausible(connection, caller.account_id, find_doubtful([identity]))
    if wrong:
        raise invalid_request(
            "The opt-out", [FieldError("address", str(why)) for why in wrong.values()]
        )


async def _refresh_response(
    state: AppState, caller: Caller, address: str, told: OptOutResponse
) -> OptOutResponse:
    """Complete the answer with what another request has done, or workers have yet to do."""
    async with state.pool.acquire() as connection:
        job = await jobs.get_job(connection, told.job_id)
        now = await address_history.get_address(
            connection, account_id=caller.account_id, match_key=normalize_address(address).match_key
        )
    return told.model_copy(
        update={
            "status": now.status if now else None,
            "propagated": job.propagated if job and told.applied else None,
        }
    )
