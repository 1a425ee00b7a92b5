"""The status of an address, why it has it, and its history."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from db import address_history
from producers.address_history import (
    MAX_CONTACTS_SHOWN,
    AddressHistory,
    OptInPreview,
    preview_opt_in,
    read_address_history,
)
from producers.explanations import explain_status
from producers.one_click import one_click_url
from schemas.addresses import InvalidAddress, normalize_address
from schemas.allowed_mail import AllowedMail, allowed_mail
from schemas.errors import InvalidRequest, NotFound
from schemas.outcomes import Cause, Outcome
from schemas.requests import FIELD_NAMES, LISTED_ADDRESS_FIELD
from schemas.statuses import Status
from web.auth import AddressesReader
from web.examples import get_examples
from web.job_responses import ActorField, ViaField
from web.params import QUERY_NUMBER
from web.problems import INVALID, NOT_FOUND, problem_responses
from web.state import State

router = APIRouter(tags=["addresses"])


class AddressContact(BaseModel):
    """A contact that holds the address, and in which field."""

    contact_id: int
    field: str
    given_name: str | None
    family_name: str | None
    company: str | None

    @classmethod
    def from_row(cls, row: address_history.AddressContact) -> Self:
        """Build it from a row."""
        return cls(**row._asdict() | {"field": FIELD_NAMES[row.field]})


class AddressResult(BaseModel):
    """What one job decided about the address."""

    job_id: int
    action: str
    requested_by: Annotated[str, Field(description="Who asked for the job, as its submitter said.")]
    actor: ActorField
    via: ViaField
    evidence_source: Annotated[
        str | None,
        Field(description="The source of an opt-in's evidence: how permission was given."),
    ]
    contact_id: Annotated[int | None, Field(description="Null if the job listed addresses.")]
    field: str
    cause: Cause
    outcome: Outcome
    reason: str | None
    from_status: Status | None
    to_status: Status | None
    decided_at: datetime
    source_address: Annotated[
        str | None, Field(description="The address that the opt-out was propagated from.")
    ]
    error: str | None

    @classmethod
    def from_row(cls, row: address_history.HistoryEntry) -> Self:
        """Build it from a row."""
        contact_id = None if row.field == LISTED_ADDRESS_FIELD else row.contact_id
        return cls(**row._asdict() | {"contact_id": contact_id, "field": FIELD_NAMES[row.field]})


class Rule(BaseModel):
    """Why a job would decide so."""

    reason: Annotated[
        str | None, Field(description="The reason of its result; null if it would be applied.")
    ]
    explanation: Annotated[str, Field(description="The reason in words.")]


class OptInCheck(BaseModel):
    """What a bulk opt-in would do to the address now."""

    allowed: Annotated[bool, Field(description="True if it would be opted in.")]
    outcome: Outcome
    rule: Rule

    @classmethod
    def from_preview(cls, preview: OptInPreview) -> Self:
        """Build it from a preview."""
        return cls(
            allowed=preview.outcome is Outcome.APPLIED,
            outcome=preview.outcome,
            rule=Rule(reason=preview.reason, explanation=preview.because),
        )


class AddressResponse(BaseModel):
    """An address, its status, and why it has it."""

    model_config = ConfigDict(json_schema_extra=get_examples("AddressResponse"))

    address: Annotated[str, Field(description="The address as it was first stored.")]
    status: Status
    marketable: Annotated[bool, Field(description="True if broadcasts may be sent.")]
    may_receive: Annotated[
        AllowedMail,
        Field(
            description="What may be sent: `broadcasts` with permission; `one_to_one` mail if only"
            " permission or engagement is missing, or mail bounced temporarily; `nothing` once it"
            " is opted out, or cannot receive mail."
        ),
    ]
    previous_status: Status | None
    status_changed_at: Annotated[datetime, Field(description="When its status changed last.")]
    status_job_id: Annotated[int | None, Field(description="The job that changed it.")]
    propagated_from_address: Annotated[
        str | None, Field(description="The address whose opt-out was propagated to this one.")
    ]
    contacts: Annotated[
        list[AddressContact], Field(description=f"The first {MAX_CONTACTS_SHOWN} contacts with it.")
    ]
    contact_count: Annotated[int, Field(description="How many contacts hold it, in any field.")]
    history: Annotated[
        list[AddressResult], Field(description="What jobs decided about it, the newest first.")
    ]
    explanation: Annotated[list[str], Field(description="Why it has its status, in words.")]
    opt_in_check: OptInCheck | None
    one_click_url: Annotated[
        str,
        Field(
            description="The one-click link of this address, for List-Unsubscribe (RFC 8058) and"
            " the footer of a mail. Anyone who has it can opt the address out."
        ),
    ]

    @classmethod
    def from_history(cls, history: AddressHistory, opt_in: OptInPreview | None, link: str) -> Self:
        """Build it from the history of an address."""
        now = history.now
        mail = allowed_mail(now.status)
        own = {name: getattr(now, name) for name in cls.model_fields if hasattr(now, name)}
        return cls(
            **own,
            marketable=mail is AllowedMail.BROADCASTS,
            may_receive=mail,
            contacts=[AddressContact.from_row(row) for row in history.holders],
            contact_count=history.holder_count,
            history=[AddressResult.from_row(row) for row in history.history],
            explanation=list(explain_status(now)),
            opt_in_check=opt_in and OptInCheck.from_preview(opt_in),
            one_click_url=link,
        )


@router.get(
    # An address may contain a slash.
    "/v1/addresses/{address:path}",
    operation_id="get_address",
    summary="Show an address and its history",
    response_description="The address, its status, contacts and history.",
    responses=problem_responses(INVALID, NOT_FOUND),
)
async def get_address(
    address: Annotated[
        str,
        Path(
            description="The email address, percent-encoded. Case does not matter.",
            examples=["ann@example.com"],
        ),
    ],
    request: Request,
    state: State,
    caller: AddressesReader,
    limit: Annotated[
        int,
        Query(ge=1, le=2_000, description="How many rows of its history to show."),
        QUERY_NUMBER,
    ] = 1_000,
) -> AddressResponse:
    """Tell what may be sent to an address, since when and why, and whether it can be opted in."""
    try:
        match_key = normalize_address(address).match_key
    except InvalidAddress as error:
        raise InvalidRequest(f"This is not an email address: {error}") from None
    async with state.pool.acquire() as connection:
        history = await read_address_history(
            connection, account_id=caller.account_id, match_key=match_key, limit=limit
        )
        if history is None:
            raise NotFound("The account does not have this address.")
        opt_in = await preview_opt_in(
            connection,
            history.now,
            account_id=caller.account_id,
            shared_address_limit=state.settings.shared_address_limit,
        )
    link = one_click_url(state.settings, str(request.base_url), caller.account_id, history.now.id)
    return AddressResponse.from_history(history, opt_in, link)
