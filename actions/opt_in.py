"""Opt in: make non-marketable addresses marketable, and no others.

"Only emails that are in the Non-Marketable status will be opted in through the mass action.
Email addresses that have been opted out either by the recipient or by a user cannot be opted
back in" (seeds 000 to 002, and the same rule in 004: `docs/glossary.md`).
"""

from actions.bulk_action import BulkAction, Params, Transition
from schemas.decisions import AddressState, Decision, apply, leave, reject
from schemas.outcomes import Outcome, Reason
from schemas.statuses import Status

_UNCHANGED = leave(Reason.ALREADY_MARKETABLE)
_BY_RECIPIENT = reject(Reason.OPTED_OUT_BY_RECIPIENT)
_NEVER = "an opt-out by its owner is never reopened in bulk"

OPT_IN_TRANSITIONS = (
    Transition(
        Status.NON_MARKETABLE, apply(Status.SINGLE_OPT_IN), "it lacked nothing but permission"
    ),
    Transition(Status.SINGLE_OPT_IN, _UNCHANGED, "it has permission already"),
    Transition(Status.DOUBLE_OPT_IN, _UNCHANGED, "it has a stronger permission already"),
    Transition(Status.CONFIRMED, _UNCHANGED, "it has a stronger permission already"),
    Transition(Status.UNENGAGED_MARKETABLE, _UNCHANGED, "it has permission already"),
    Transition(
        Status.UNENGAGED_NON_MARKETABLE,
        reject(Reason.UNENGAGED),
        "only engagement of its owner can bring it back",
    ),
    Transition(Status.LOCKDOWN, reject(Reason.LOCKED_DOWN), "the lock-down must be lifted first"),
    Transition(Status.BOUNCE, reject(Reason.BOUNCED), "mail to it bounced too often"),
    Transition(Status.HARD_BOUNCE, reject(Reason.HARD_BOUNCED), "mail to it failed for good"),
    Transition(Status.INVALID, reject(Reason.INVALID_ADDRESS), "no mail can reach it"),
    Transition(Status.DEACTIVATED, reject(Reason.DEACTIVATED_MAILBOX), "nobody reads the mailbox"),
    Transition(Status.SYSTEM, reject(Reason.SYSTEM_SUPPRESSED), "the system suppresses it"),
    Transition(
        Status.ADMIN,
        reject(Reason.OPTED_OUT_BY_ACCOUNT),
        "an opt-out by a user is never reopened in bulk",
    ),
    Transition(Status.MANUAL, _BY_RECIPIENT, _NEVER),
    Transition(Status.LIST_UNSUBSCRIBE, _BY_RECIPIENT, _NEVER),
    Transition(
        Status.FEEDBACK, reject(Reason.COMPLAINED), "its owner complained to the mailbox provider"
    ),
    Transition(Status.SPAM, reject(Reason.COMPLAINED), "its owner reported spam"),
)

_DECISIONS = {row.from_status: row.decision for row in OPT_IN_TRANSITIONS}


def decide_opt_in(state: AddressState) -> Decision:
    """Apply the opt-in table, and reject an address with a sibling opted out in its own right.

    A role address does not count as such a sibling, and contacts that the job itself created do not
    count either. An import with permission has the same rule (`actions/import_contacts.py`).
    `find_addresses_with_opted_out_sibling` in `engine/chunk_reader.py` finds these addresses, in
    memory and by the statement of that name in `db/sql/chunk_addresses.sql`.
    """
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
