"""The whole history of one address, for every way to show it."""

from typing import NamedTuple

import asyncpg

from actions.registry import all_actions, describe_reason
from db import address_history, chunk_addresses
from engine.chunk_reader import OWN_RIGHT
from schemas.decisions import AddressState
from schemas.outcomes import Outcome

MAX_CONTACTS_SHOWN = 20

_NO_JOB = 0
"""The id of no job: what an import brings is left out only by that import itself."""


class OptInPreview(NamedTuple):
    """What a bulk opt-in would do with the address now, and why."""

    outcome: Outcome
    reason: str | None
    because: str


class AddressHistory(NamedTuple):
    """An address as it is, some of its holders, and its history, newest first."""

    now: address_history.CurrentAddress
    holders: list[address_history.AddressContact]
    holder_count: int
    history: list[address_history.HistoryEntry]


async def read_address_history(
    connection: asyncpg.Connection, *, account_id: int, match_key: str, limit: int
) -> AddressHistory | None:
    """Read the history of an address, with its newest `limit` results; None if it is unknown."""
    now = await address_history.get_address(connection, account_id=account_id, match_key=match_key)
    if now is None:
        return None
    holders, in_all = await address_history.list_contacts(
        connection, account_id=account_id, address_id=now.id, limit=MAX_CONTACTS_SHOWN
    )
    history = await address_history.list_history(
        connection, account_id=account_id, address_id=now.id, limit=limit
    )
    return AddressHistory(now, holders, in_all, history)


async def preview_opt_in(
    connection: asyncpg.Connection,
    now: address_history.CurrentAddress,
    *,
    account_id: int,
    shared_address_limit: int,
) -> OptInPreview | None:
    """Return what an opt-in job would decide now, by its own rules; None if there is no such
    action.
    """
    action = all_actions().get("opt_in")
    if action is None:
        return None
    beside = await chunk_addresses.find_with_opted_out_sibling(
        connection,
        account_id=account_id,
        job_id=_NO_JOB,
        address_ids=[now.id],
        own_right_statuses=OWN_RIGHT,
        shared_address_limit=shared_address_limit,
    )
    known = AddressState(
        now.status, now.propagated_from is not None, sibling_opted_out=bool(beside)
    )
    decision = action.decide(known, action.params())
    because = next(
        (
            transition.because
            for transition in action.transitions
            if transition.from_status is now.status and transition.reason == decision.reason
        ),
        describe_reason(decision.reason),
    )
    return OptInPreview(decision.outcome, decision.reason, because)
