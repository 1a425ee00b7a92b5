"""Immediate opt-outs of single addresses, submitted with an API key."""

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from db import address_history, jobs
from producers.immediate_opt_out import OptOutReceipt, opt_out_immediately
from producers.invalid_request import invalid_request, require_storable
from producers.keys import Caller
from producers.plausibility import find_doubtful, find_implausible
from producers.recipient_events import (
    MAX_NOTE_LENGTH,
    Moment,
    SourceName,
    event_key,
    opt_out_request,
)
from schemas.addresses import find_correction, normalize_address
from schemas.errors import FieldError, IdempotencyConflict
from schemas.requests import JobRequest, ShortText
from schemas.statuses import Status
from web import problems
from web.auth import OptOutsWriter
from web.problems import Problem, problem_responses
from web.request_body import body_openapi, read_json_body
from web.request_notes import get_notes, note_job
from web.state import AppState, get_state

router = APIRouter(tags=["opt-outs"])


class OptOutRequest(BaseModel):
    """One recipient's opt-out, as a service of the account submits it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(max_length=1000, description="The address that was opted out.")
    kind: Literal[Status.MANUAL, Status.LIST_UNSUBSCRIBE, Status.FEEDBACK, Status.SPAM] = Field(
        description="How: manual (a link or a page), list_unsubscribe (the mail client's button),"
        " feedback (a complaint to the mailbox provider) or spam (one on a form of yours)."
    )
    occurred_at: Moment | None = Field(
        None, description="When it happened, with its time zone; not in the future."
    )
    note: str | None = Field(None, max_length=MAX_NOTE_LENGTH, description="Kept with the job.")
    source: SourceName = Field(
        description="The system in which the recipient opted out, as one word.",
        examples=["preference-center"],
    )
    event_id: ShortText | None = Field(
        None,
        description="Your own id of the event. With it, sending the event again changes nothing.",
        examples=["unsubscribe-4711"],
    )


class OptOutResponse(BaseModel):
    """What the opt-out did."""

    job_id: int = Field(description="The job of this opt-out.")
    applied: bool = Field(
        description="False if it is stored, and workers apply it before all other work."
    )
    created: bool = Field(description="False if an earlier request sent this event.")
    status: Status | None = Field(
        description="The address's status now, which may have a higher rank than this opt-out."
    )
    propagated: int | None = Field(
        description="How many siblings it was propagated to; null until it is applied."
    )


@router.post(
    "/v1/opt-outs",
    summary="Opt an address out",
    response_description="The opt-out is applied, and propagated to siblings.",
    responses={
        202: {"model": OptOutResponse, "description": "Stored. It will be applied shortly."},
        **problem_responses(problems.IDEMPOTENCY_KEY_REUSED),
    },
    openapi_extra=body_openapi(OptOutRequest),
)
async def opt_out(request: Request, response: Response, caller: OptOutsWriter) -> OptOutResponse:
    """Opt out one recipient's address, known to the account or not, and its siblings.

    After a 200, no bulk job makes any of these addresses marketable. After a 202 that is so once
    the job has completed; workers apply it before all other work. The same `event_id` of the same
    `source` is one event. With a different body it is rejected (409).
    """
    # Not a parameter: that takes FastAPI longer than the look-up of the key.
    state = get_state(request)
    body = await read_json_body(request, caller, OptOutRequest)
    job_request = _build_request(caller, body)
    await _require_plausible(state, caller, body.address)
    try:
        receipt = await opt_out_immediately(
            state.pool,
            state.settings,
            job_request,
            account_id=caller.account_id,
            actor=caller.actor,
        )
    except IdempotencyConflict:
        raise Problem(
            problems.IDEMPOTENCY_KEY_REUSED,
            "This event_id of this source belongs to a different event. Nothing was stored. Send a"
            " new event with a new id.",
        ) from None
    note_job(receipt.job_id)
    if not receipt.applied:
        response.status_code = HTTPStatus.ACCEPTED
    if receipt.status is None:
        receipt = await _add_effect(state, caller, body.address, receipt)
    return OptOutResponse(**receipt._asdict())


def _build_request(caller: Caller, body: OptOutRequest) -> JobRequest:
    require_storable("The opt-out", body.event_id)
    return opt_out_request(
        account=caller.account,
        addresses=[body.address],
        kind=body.kind,
        source=body.source,
        key=body.event_id and event_key("opt-out", body.source, event_id=body.event_id),
        requested_by=caller.key_name,
        correlation_id=get_notes().correlation_id,
        occurred_at=body.occurred_at,
        note=body.note,
    )


async def _require_plausible(state: AppState, caller: Caller, address: str) -> None:
    """Raise InvalidRequest for an address that is likely a mistyped one of the account.

    Only addresses that look mistyped are looked up.
    """
    normalized = normalize_address(address)
    if find_correction(normalized) is None:
        return
    async with state.pool.acquire() as connection:
        wrong = await find_implausible(connection, caller.account_id, find_doubtful([normalized]))
    if wrong:
        raise invalid_request(
            "The opt-out", [FieldError("address", str(why)) for why in wrong.values()]
        )


async def _add_effect(
    state: AppState, caller: Caller, address: str, receipt: OptOutReceipt
) -> OptOutReceipt:
    """Add the present status and count: this request did not apply the opt-out itself."""
    async with state.pool.acquire() as connection:
        job = await jobs.get_job(connection, receipt.job_id, account_id=caller.account_id)
        now = await address_history.get_address(
            connection, account_id=caller.account_id, match_key=normalize_address(address).match_key
        )
    return receipt._replace(
        status=now and now.status,
        propagated=job.propagated if job and receipt.applied else None,
    )
