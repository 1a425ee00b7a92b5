"""The whole story of one address, for whoever shows it."""

from typing import NamedTuple

import asyncpg

from actions.registry import all_actions, meaning_of_reason
from db import address_history, chunks
from engine.chunk_reader import OWN_RIGHT
from schemas.decisions import Known
from schemas.outcomes import Outcome

CONTACTS_SHOWN = 20

_NO_JOB = 0
"""The id of no job: what an import brings is left out only by that import itself."""


class OptInNow(NamedTuple):
    """What a bulk opt-in would do with the address now, and why."""

    outcome: Outcome
    reason: str | None
    because: str


class AddressStory(NamedTuple):
    """An address as it is, some of its holders, and its history, newest first."""

    now: address_history.AddressNow
    holders: list[address_history.Holder]
    holders_in_all: int
    history: list[address_history.Chapter]


async def read_story(
    connection: asyncpg.Connection, *, account_id: int, match_key: str, most: int
) -> AddressStory | None:
    """The story of an address, with its newest `most` chapters; None where it is not known."""
    now = await address_history.address_now(connection, account_id=account_id, match_key=match_key)
    if now is None:
        return None
    holders, in_all = await address_history.holders_of(
        connection, account_id=account_id, address_id=now.id, most=CONTACTS_SHOWN
    )
    history = await address_history.history_of(
        connection, account_id=account_id, address_id=now.id, most=most
    )
    return AddressStory(now, holders, in_all, history)


async def opt_in_now(
    connection: asyncpg.Connection,
    now: address_history.AddressNow,
    *,
    account_id: int,
    shared_address_limit: int,
) -> OptInNow | None:
    """What an opt-in job would decide, by the rules that it follows; None where there is none."""
    action = all_actions().get("opt_in")
    if action is None:
        return None
    beside = await chunks.beside_opt_out(
        connection,
        account_id=account_id,
        job_id=_NO_JOB,
        address_ids=[now.id],
        own_right_statuses=OWN_RIGHT,
        shared_address_limit=shared_address_limit,
    )
    known = Known(now.status, now.propagated_from is not None, beside_opt_out=bool(beside))
    decision = action.decide(known, action.params())
    because = next(
        (
            edge.because
            for edge in action.edges
            if edge.from_status is now.status and edge.reason == decision.reason
        ),
        meaning_of_reason(decision.reason),
    )
    return OptInNow(decision.outcome, decision.reason, because)
