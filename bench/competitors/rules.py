"""The rules of opt-in and opt-out, for the competitors that decide in Python.

Competitors share no code with Sluice. The terms are those of docs/transitions.md.
"""

from typing import NamedTuple

ROLE_ADDRESS_LIMIT = 10
"""An address that more contacts hold is a role address."""

MARKETABLE = frozenset({"single_opt_in", "double_opt_in", "confirmed", "unengaged_marketable"})
OPTED_OUT = frozenset({"admin", "manual", "list_unsubscribe", "feedback", "spam"})
REFUSALS = {
    "unengaged_non_marketable": "unengaged",
    "lockdown": "locked_down",
    "bounce": "bounced",
    "hard_bounce": "hard_bounced",
    "invalid": "invalid_address",
    "deactivated": "deactivated_mailbox",
    "system": "system_suppressed",
    "admin": "opted_out_by_account",
    "manual": "opted_out_by_recipient",
    "list_unsubscribe": "opted_out_by_recipient",
    "feedback": "complained",
    "spam": "complained",
}
"""The reason why an opt-in leaves an address non-marketable."""

STATUSES = ("non_marketable", *sorted(MARKETABLE), *REFUSALS)


class Decision(NamedTuple):
    """The decision on one address; `to_status` is set exactly if `outcome` is applied."""

    outcome: str
    to_status: str | None = None
    reason: str | None = None


SAME_ADDRESS = Decision("unchanged", reason="same_address_in_job")
"""The job has already changed the address."""


def opt_in(status: str, *, sibling_opted_out: bool) -> Decision:
    """Opt in an address without permission, unless the opt-out of a sibling is propagated to it."""
    if status in MARKETABLE:
        return Decision("unchanged", reason="already_marketable")
    if status in REFUSALS:
        return Decision("rejected", reason=REFUSALS[status])
    if sibling_opted_out:
        return Decision("rejected", reason="sibling_opted_out")
    return Decision("applied", to_status="single_opt_in")


def opt_out(status: str, propagated_from: int | None) -> Decision:
    """Opt out for a user of the account, unless the address is opted out in its own right."""
    if in_own_right(status, propagated_from):
        return Decision("unchanged", reason="already_opted_out")
    return Decision("applied", to_status="admin")


def in_own_right(status: str, propagated_from: int | None) -> bool:
    """Return whether the address itself was opted out. Only then is its opt-out propagated."""
    return status in OPTED_OUT and propagated_from is None


def is_role(holders: int) -> bool:
    """Return whether so many contacts hold the address that it is a role address."""
    return holders > ROLE_ADDRESS_LIMIT


def changed_by(job_id: int, status_job_id: int | None, propagated_from: int | None) -> bool:
    """Return whether this job changed the address directly, in this chunk or another."""
    return status_job_id == job_id and propagated_from is None
