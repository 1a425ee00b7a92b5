"""Rows of the database as people and programs see them, on the command line and over HTTP."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas.actors import ActivityEvent, Via
from schemas.outcomes import Cause, Outcome
from schemas.requests import FIELD_NAMES
from schemas.statuses import Status

ActorField = Annotated[
    str | None,
    Field(
        description="Who did it: `key` or `hook` with its id, `link`, `cli` or `python`. Null if an"
        " older version stored it.",
        examples=["key:7"],
    ),
]
ViaField = Annotated[str | None, Field(description="The entry point.", examples=[Via.HTTP.value])]
FieldOfContact = Annotated[str, BeforeValidator(lambda field: FIELD_NAMES.get(field, field))]
"""The name of a contact's field, which is stored as a number."""


class View(BaseModel):
    """What a program gets as JSON; the fields are described by their docstrings."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


class ActivityView(View):
    """What an actor did to a job, a key, a hook or the account."""

    id: int
    account: str
    """The account's name."""
    at: datetime
    event: Annotated[str, Field(json_schema_extra={"enum": list(ActivityEvent)})]
    """What was done. A newer version of Sluice may store other events."""
    actor: ActorField
    via: ViaField
    job_id: int | None
    """The job, if it is about one."""
    key_id: int | None
    """The API key, if it is about one."""
    hook_id: int | None
    """The hook, if it is about one."""
    correlation_id: str | None
    """That of the request, if there was one."""
    detail: dict[str, Any] | None
    """For a plan the confirmed counts and the tolerance, for a new key its scopes, for a new hook
    its source, and for a renewed hook `former_days`: how long its former secret stays valid."""


class AddressContact(View):
    """A contact that holds the address, and in which field."""

    contact_id: int
    field: FieldOfContact
    given_name: str | None
    family_name: str | None
    company: str | None


class AddressResult(View):
    """A result about the address, and who asked for its job."""

    job_id: int
    action: str
    requested_by: str
    """Who asked for the job, as the client said; else the key's name."""
    actor: ActorField
    via: ViaField
    evidence_source: str | None
    """For an opt-in: how permission was given."""
    contact_id: int | None
    """Null in a job over addresses."""
    field: FieldOfContact
    cause: Cause
    outcome: Outcome
    reason: str | None
    from_status: Status | None
    to_status: Status | None
    decided_at: datetime
    source_address: str | None
    """The address that the opt-out was propagated from."""
    error: str | None
