"""Opt in: make non-marketable addresses marketable, and no others.

"Only emails that are in the Non-Marketable status will be opted in through the mass action.
Email addresses that have been opted out either by the recipient or by a user cannot be opted
back in" (seeds 000, 001, 002; the same rule in 004).
"""

from actions.bulk_action import BulkAction, Params, Transition
from schemas.decisions import AddressState, Decision, reject
from schemas.outcomes import Outcome, Reason
from schemas.statuses import Status

_TARGET = Status.SINGLE_OPT_IN
_BY_RECIPIENT = "an opt-out by its owner is never reopened in bulk"


def _unchanged(status: Status, because: str) -> Transition:
    return Transition(status, Outcome.UNCHANGED, None, Reason.ALREADY_MARKETABLE, because)


def _rejected(status: Status, reason: Reason, because: str) -> Transition:
    return Transition(status, Outcome.REJECTED, None, reason, because)


OPT_IN_TRANSITIONS = (
    Transition(
        Status.NON_MARKETABLE,
        Outcome.APPLIED,
        _TARGET,
        None,
        "it lacked nothing but permission",
    ),
    _unchanged(Status.SINGLE_OPT_IN, "it has permission already"),
    _unchanged(Status.DOUBLE_OPT_IN, "it has a stronger permission already"),
    _unchanged(Status.CONFIRMED, "it has a stronger permission already"),
    _unchanged(Status.UNENGAGED_MARKETABLE, "it has permission already"),
    _rejected(
        Status.UNENGAGED_NON_MARKETABLE,
        Reason.UNENGAGED,
        "only engagement of its owner can bring it back",
    ),
    _rejected(Status.LOCKDOWN, Reason.LOCKED_DOWN, "the lock-down must be lifted first"),
    _rejected(Status.BOUNCE, Reason.BOUNCED, "mail to it bounced too often"),
    _rejected(Status.HARD_BOUNCE, Reason.HARD_BOUNCED, "mail to it failed for good"),
    _rejected(Status.INVALID, Reason.INVALID_ADDRESS, "no mail can reach it"),
    _rejected(Status.DEACTIVATED, Reason.DEACTIVATED_MAILBOX, "nobody reads the mailbox"),
    _rejected(Status.SYSTEM, Reason.SYSTEM_SUPPRESSED, "the system suppresses it"),
    _rejected(
        Status.ADMIN, Reason.OPTED_OUT_BY_ACCOUNT, "an opt-out by a user is never reopened in bulk"
    ),
    _rejected(Status.MANUAL, Reason.OPTED_OUT_BY_RECIPIENT, _BY_RECIPIENT),
    _rejected(Status.LIST_UNSUBSCRIBE, Reason.OPTED_OUT_BY_RECIPIENT, _BY_RECIPIENT),
    _rejected(Status.FEEDBACK, Reason.COMPLAINED, "its owner complained to the mailbox provider"),
    _rejected(Status.SPAM, Reason.COMPLAINED, "its owner reported spam"),
)

_DECISIONS = {
    transition.from_status: Decision(transition.outcome, transition.to_status, transition.reason)
    for transition in OPT_IN_TRANSITIONS
}


def decide_opt_in(state: AddressState) -> Decision:
    """Apply the opt-in table, and refuse an address with a sibling opted out in its own right."""
    decision = _DECISIONS[state.status]
    if decision.outcome is Outcome.APPLIED and state.sibling_opted_out:
        return reject(Reason.SIBLING_OPTED_OUT)
    return decision


class OptIn(BulkAction):
    """Make non-marketable addresses single opt-in, with evidence of permission."""

    name = "opt_in"
    summary = "Opt addresses in, with evidence of permission."
    needs_evidence = True
    checks_siblings = True
    transitions = OPT_IN_TRANSITIONS

    def decide(self, state: AddressState, params: Params) -> Decision:
        """See `OPT_IN_TRANSITIONS`."""
        del params
        return decide_opt_in(state)
