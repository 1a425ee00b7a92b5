"""What an address is now, and how it came to that."""

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
from web.job_responses import ActorField, ViaField
from web.number_params import QUERY_NUMBER
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
    def from_row(cls, holder: address_history.AddressContact) -> Self:
        """Build a holder of the address, with the field by its name."""
        return cls(**holder._asdict() | {"field": FIELD_NAMES[holder.field]})


class AddressResult(BaseModel):
    """One decision about the address."""

    job_id: int
    action: str
    requested_by: Annotated[str, Field(description="Who asked for the job, as the caller said.")]
    actor: ActorField
    via: ViaField
    evidence_source: Annotated[
        str | None, Field(description="Of an opt-in: how permission was given.")
    ]
    contact_id: Annotated[int | None, Field(description="Null in a job over addresses.")]
    field: str
    cause: Cause
    outcome: Outcome
    reason: str | None
    from_status: Status | None
    to_status: Status | None
    decided_at: datetime
    source_address: Annotated[str | None, Field(description="The one that an opt-out spread from.")]
    error: str | None

    @classmethod
    def from_row(cls, chapter: address_history.HistoryEntry) -> Self:
        """Build a result of the address's history; without a contact if the address itself was
        listed.
        """
        of_address = chapter.field == LISTED_ADDRESS_FIELD
        return cls(
            **chapter._asdict()
            | {
                "contact_id": None if of_address else chapter.contact_id,
                "field": FIELD_NAMES[chapter.field],
            }
        )


class Rule(BaseModel):
    """Why a job would decide so."""

    reason: Annotated[
        str | None, Field(description="The reason that its result would have; null if applied.")
    ]
    explanation: Annotated[str, Field(description="The same for people.")]


class OptInCheck(BaseModel):
    """What a bulk opt-in would do with the address now, by the rules that jobs follow."""

    allowed: Annotated[bool, Field(description="Whether it would be opted in.")]
    outcome: Outcome
    rule: Rule

    @classmethod
    def from_decision(cls, now: OptInPreview) -> Self:
        """Say whether an opt-in would be applied now, and by which rule."""
        return cls(
            allowed=now.outcome is Outcome.APPLIED,
            outcome=now.outcome,
            rule=Rule(reason=now.reason, explanation=now.because),
        )


class AddressResponse(BaseModel):
    """An address, what it is now, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "address": "Ann@example.com",
                    "status": "manual",
                    "marketable": False,
                    "may_receive": "nothing",
                    "previous_status": "single_opt_in",
                    "status_changed_at": "2025-03-01T08:00:00Z",
                    "status_job_id": 12,
                    "propagated_from_address": None,
                    "contacts": [
                        {
                            "contact_id": 17,
                            "field": "email1",
                            "given_name": "Ann",
                            "family_name": None,
                            "company": None,
                        }
                    ],
                    "contact_count": 1,
                    "history": [
                        {
                            "job_id": 12,
                            "action": "opt_out",
                            "requested_by": "the recipient",
                            "actor": "link",
                            "via": "one_click",
                            "evidence_source": None,
                            "contact_id": 17,
                            "field": "email1",
                            "cause": "direct",
                            "outcome": "applied",
                            "reason": None,
                            "from_status": "single_opt_in",
                            "to_status": "manual",
                            "decided_at": "2025-03-01T08:00:00Z",
                            "source_address": None,
                            "error": None,
                        }
                    ],
                    "explanation": ["It gets no broadcasts: recipient used the opt-out link."],
                    "opt_in_check": {
                        "allowed": False,
                        "outcome": "rejected",
                        "rule": {
                            "reason": "opted_out_by_recipient",
                            "explanation": "an opt-out by its owner is never reopened in bulk",
                        },
                    },
                    "one_click_url": "https://sluice.example/v1/unsubscribe/1.77.Gk3c9w",
                }
            ]
        }
    )

    address: Annotated[str, Field(description="As it was given first.")]
    status: Status
    marketable: Annotated[bool, Field(description="Whether it may get broadcasts.")]
    may_receive: Annotated[
        AllowedMail,
        Field(
            description="The most that it may be sent: broadcasts where there is permission;"
            " one-to-one mail where only permission or engagement is missing, or mail bounced for a"
            " while; nothing once it is opted out, or mail cannot arrive."
        ),
    ]
    previous_status: Status | None
    status_changed_at: Annotated[datetime, Field(description="When it came to its status.")]
    status_job_id: Annotated[int | None, Field(description="The job that gave it its status.")]
    propagated_from_address: Annotated[
        str | None, Field(description="The address whose opt-out reached this one.")
    ]
    contacts: Annotated[
        list[AddressContact], Field(description=f"The first {MAX_CONTACTS_SHOWN} that hold it.")
    ]
    contact_count: Annotated[int, Field(description="How many hold it, in one field or another.")]
    history: Annotated[
        list[AddressResult], Field(description="What jobs decided, the newest first.")
    ]
    explanation: Annotated[list[str], Field(description="Sentences for people.")]
    opt_in_check: OptInCheck | None
    one_click_url: Annotated[
        str,
        Field(
            description="The link of this address for List-Unsubscribe (RFC 8058) and the foot of a"
            " mail. Whoever has it can opt the address out."
        ),
    ]

    @classmethod
    def from_history(
        cls, story: AddressHistory, opt_in: OptInPreview | None, one_click: str
    ) -> Self:
        """Build the response from the history; `one_click` is the address's one-click link."""
        now = story.now
        kind = allowed_mail(now.status)
        return cls(
            address=now.address,
            status=now.status,
            marketable=kind is AllowedMail.BROADCASTS,
            may_receive=kind,
            previous_status=now.previous_status,
            status_changed_at=now.status_changed_at,
            status_job_id=now.status_job_id,
            propagated_from_address=now.propagated_from_address,
            contacts=[AddressContact.from_row(holder) for holder in story.holders],
            contact_count=story.holder_count,
            history=[AddressResult.from_row(chapter) for chapter in story.history],
            explanation=list(explain_status(now)),
            opt_in_check=opt_in and OptInCheck.from_decision(opt_in),
            one_click_url=one_click,
        )


@router.get(
    # A slash may stand in an address.
    "/v1/addresses/{address:path}",
    operation_id="get_address",
    summary="Tell the story of an address",
    response_description="Its status and why, its contacts, and its history.",
    responses=problem_responses(INVALID, NOT_FOUND),
)
async def get_address(
    address: Annotated[
        str,
        Path(
            description="The email address, percent-encoded. Upper case makes no difference.",
            examples=["ann@example.com"],
        ),
    ],
    request: Request,
    state: State,
    caller: AddressesReader,
    limit: Annotated[
        int, Query(ge=1, le=2_000, description="How much of its history, at most."), QUERY_NUMBER
    ] = 1_000,
) -> AddressResponse:
    """Return whether an address may be mailed to, since when and why, and whether it can be opted
    in.
    """
    try:
        match_key = normalize_address(address).match_key
    except InvalidAddress as error:
        raise InvalidRequest(f"That is not an email address: {error}") from None
    async with state.pool.acquire() as connection:
        story = await read_address_history(
            connection, account_id=caller.account_id, match_key=match_key, limit=limit
        )
        if story is None:
            raise NotFound("The account does not know this address.")
        opt_in = await preview_opt_in(
            connection,
            story.now,
            account_id=caller.account_id,
            shared_address_limit=state.settings.shared_address_limit,
        )
    link = one_click_url(state.settings, str(request.base_url), caller.account_id, story.now.id)
    return AddressResponse.from_history(story, opt_in, link)
