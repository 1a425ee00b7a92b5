"""The form that an automation posts when somebody opts out: Keap's "send an http post", for one.

Whoever sets the automation up chooses the names of the fields, and it may send more than was asked
for. So what an opt-out needs is taken from wherever it plausibly is, and the rest is not kept.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from db.hooks import Hook
from producers.recipient_acts import Kind, event_key, known_address, request_of
from producers.wrong_input import wrong_input
from schemas.addresses import identify
from schemas.errors import WrongInput
from schemas.requests import JobRequest, ShortText
from schemas.statuses import Status

_ADDRESS_FIELDS = frozenset(
    {"address"} | {f"{name}{n}" for name in ("email", "emailaddress") for n in ("", 1, 2, 3)}
)
"""Names of fields with an address in them, in lower case."""

_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What stands in a form for bytes that are not UTF-8."""

_CONTACT_FIELDS = frozenset({"id", "contactid"})
_MOST_CONTACT = 40


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: Kind = Status.MANUAL
    event_id: ShortText | None = None


class FormPost(NamedTuple):
    """What a form says. `refused` are the fields whose text is no address."""

    addresses: list[str]
    refused: list[str]
    kind: Status
    event_id: str | None
    contact: str | None


def parse_form(fields: Sequence[tuple[str, str]]) -> FormPost:
    """What the form says; raises WrongInput where it has no address, or a kind that is none."""
    filled = [(name, text.strip()) for name, text in fields if text.strip()]
    addresses, refused = _addresses(filled)
    by_name = {name.lower(): text for name, text in filled}
    try:
        known = _Fields.model_validate(by_name)
    except ValidationError as error:
        raise wrong_input("The form", error, _Fields) from None
    contact = next((text for name, text in by_name.items() if name in _CONTACT_FIELDS), None)
    return FormPost(addresses, refused, known.kind, known.event_id, contact)


def _addresses(filled: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    addresses, refused, last = [], [], None
    for name, text in filled:
        if name.lower() in _ADDRESS_FIELDS:
            try:
                addresses.append(_address_in(text))
            except WrongInput as error:
                refused.append(name)
                last = error
    if not addresses:
        raise last or WrongInput(
            "The form has no address in it; nothing was stored. Send it in a field named email, and"
            " further ones of the same person in email2 and email3."
        )
    return addresses, refused


def _address_in(text: str) -> str:
    if _UNREADABLE in text:
        raise WrongInput(
            "The form has an address with bytes that are not UTF-8; nothing was stored."
        )
    return known_address(text)


def request_of_form(hook: Hook, form: FormPost, correlation_id: str) -> JobRequest:
    """The opt-out that the form is; raises WrongInput."""
    note = form.contact and f"contact {form.contact[:_MOST_CONTACT]} of {hook.source}"
    return request_of(
        account=hook.account,
        addresses=form.addresses,
        kind=form.kind,
        source=hook.source,
        key=_key(hook, form, note),
        requested_by=f"hook {hook.id} ({hook.source})",
        correlation_id=correlation_id,
        note=note,
    )


def _key(hook: Hook, form: FormPost, note: str | None) -> str:
    """With the sender's id the event's own; without one the same form is one job a day."""
    if form.event_id is not None:
        return event_key("hook", hook.id, "form", event_id=form.event_id)
    identities = sorted({identify(address).match_key for address in form.addresses})
    digest = hashlib.sha256("\n".join([*identities, note or ""]).encode()).hexdigest()
    return f"hook {hook.id} form of a day {digest} {form.kind.value} {datetime.now(UTC).date()}"
