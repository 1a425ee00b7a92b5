"""An address, its contacts and its history: `sluice address --json` and HTTP give this JSON."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import asyncpg
from pydantic import Field

from actions.opt_in import OPT_IN_TRANSITIONS, decide_opt_in
from actions.registry import describe_reason
from db import address_history, chunk_addresses
from schemas.addresses import InvalidAddress, normalize_address
from schemas.decisions import AddressState
from schemas.errors import InvalidRequest, NotFound
from schemas.job_key import JobKey
from schemas.outcomes import Outcome
from schemas.statuses import MARKETABLE, OPTED_OUT, OWN_RIGHT, AllowedMail, Status, allowed_mail
from schemas.views import AddressContact, AddressResult, View

MAX_CONTACTS_SHOWN = 20

_OPT_IN_EDGES = {edge.from_status: edge for edge in OPT_IN_TRANSITIONS}
_OPT_IN_EFFECTS = {
    Outcome.APPLIED: "would opt it in",
    Outcome.UNCHANGED: "would leave it as it is",
    Outcome.REJECTED: "would be rejected",
}

_NO_JOB = 0
"""The id of no job: only the import itself does not count the opt-outs of its own rows."""


class Rule(View):
    """The rule behind a decision."""

    reason: str | None
    """The reason that the result would have; null if applied."""
    explanation: str
    """The same for people."""


class OptInCheck(View):
    """What a bulk opt-in would do with the address now, by the rules that jobs follow."""

    allowed: bool
    """True if it would be opted in."""
    outcome: Outcome
    rule: Rule


class AddressView(View):
    """An address, its status and why it has it."""

    address: str
    """As it was first given."""
    status: Status
    marketable: bool
    """True if broadcasts may be sent to it."""
    may_receive: AllowedMail
    """The most that may be sent to it. `broadcasts`: there is permission. `one_to_one`: permission
    or engagement is missing, or mail bounced for a while. `nothing`: it is opted out, or mail
    cannot arrive.
    """
    previous_status: Status | None
    status_changed_at: datetime
    status_job_id: int | None
    """The job that set the status."""
    propagated_from_address: str | None
    """The address whose opt-out was propagated to this one."""
    contacts: Annotated[
        list[AddressContact], Field(description=f"The first {MAX_CONTACTS_SHOWN} that hold it.")
    ]
    contact_count: int
    """How many contacts hold it, in any field."""
    history: list[AddressResult]
    """Its results, the newest first."""
    explanation: list[str]
    """Sentences for people."""
    # Never null: every version has the action. The API's schema allows it all the same.
    opt_in_check: OptInCheck | None


def parse_match_key(text: str) -> str:
    """Return the match key of an address that someone typed; raises InvalidRequest."""
    try:
        return normalize_address(text).match_key
    except InvalidAddress as error:
        raise InvalidRequest(f"That is not an email address: {error}") from None


async def read_address(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    match_key: str,
    limit: int,
    role_address_limit: int,
) -> tuple[int, AddressView]:
    """Return the id of the address, and the address with up to `limit` results.

    Raises NotFound.
    """
    now = await address_history.get_address(connection, account_id=account_id, match_key=match_key)
    if now is None:
        raise NotFound("The account does not know this address.")
    contacts, contact_count = await address_history.list_contacts(
        connection, account_id=account_id, address_id=now.id, limit=MAX_CONTACTS_SHOWN
    )
    history = await address_history.list_history(
        connection, account_id=account_id, address_id=now.id, limit=limit
    )
    may_receive = allowed_mail(now.status)
    return now.id, AddressView(
        **now._asdict() | {"contact_count": contact_count},
        marketable=may_receive is AllowedMail.BROADCASTS,
        may_receive=may_receive,
        contacts=contacts,
        history=history,
        explanation=list(explain_status(now)),
        opt_in_check=await _check_opt_in(
            connection, now, account_id=account_id, role_address_limit=role_address_limit
        ),
    )


async def _check_opt_in(
    connection: asyncpg.Connection,
    now: address_history.CurrentAddress,
    *,
    account_id: int,
    role_address_limit: int,
) -> OptInCheck:
    opted_out_siblings = await chunk_addresses.find_addresses_with_opted_out_sibling(
        connection,
        JobKey(account_id, _NO_JOB),
        address_ids=[now.id],
        own_right_statuses=OWN_RIGHT,
        role_address_limit=role_address_limit,
    )
    state = AddressState(
        now.status, now.propagated_from is not None, sibling_opted_out=bool(opted_out_siblings)
    )
    decision = decide_opt_in(state)
    edge = _OPT_IN_EDGES[now.status]
    is_edge = edge.decision.reason == decision.reason
    explanation = edge.because if is_edge else describe_reason(decision.reason)
    return OptInCheck(
        allowed=decision.outcome is Outcome.APPLIED,
        outcome=decision.outcome,
        rule=Rule(reason=decision.reason, explanation=explanation),
    )


def explain_status(address: address_history.CurrentAddress) -> Iterator[str]:
    """Say why it may or may not get broadcasts, and what a bulk opt-in would do."""
    meaning = address.status.meaning
    if address.status in MARKETABLE:
        yield f"It may get broadcasts: {meaning}."
        return
    if address.propagated_from is None:
        yield f"It gets no broadcasts: {meaning}."
    else:
        yield (
            f"It gets no broadcasts: {address.propagated_from_address} was opted out, and a"
            " contact holds both. So the opt-out was propagated to this address."
        )
    edge = _OPT_IN_EDGES[address.status]
    yield f"A bulk opt-in {_OPT_IN_EFFECTS[edge.decision.outcome]}: {edge.because}."
    if address.status in OPTED_OUT:
        yield "Only its owner can come back, by signing up again; no bulk job reopens an opt-out."
