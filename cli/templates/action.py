"""Example action: say here in one sentence what it does to an address, and who wants it.

The action needs only this file, its test and its section of `docs/transitions.md`. It is ready to
run, and marks marketable addresses as unengaged until you make it yours. Answer each comment that
begins with "Decide", then remove the comment. `actions/opt_in.py` and `actions/opt_out.py` are
larger examples.
"""

from pydantic import Field

from actions.bulk_action import BulkAction, Params, Transition
from schemas.decisions import AddressState, Decision, apply, leave, reject
from schemas.outcomes import Reason
from schemas.statuses import Status

TARGET = Status.UNENGAGED_NON_MARKETABLE
"""The status of an address to which this action was applied."""


# Decide what a submitter has to say besides the selection. Each field becomes an option of
# `sluice submit example-action`, and a key of `params` over HTTP; its description is the help
# text. An action that takes nothing needs no class of its own.
class ExampleActionParams(Params):
    """The parameters of a job, which are stored with it. Other names are rejected."""

    note: str | None = Field(None, max_length=2000, description="why; kept with the job")


_APPLIED = apply(TARGET)
_BY_RECIPIENT = reject(Reason.OPTED_OUT_BY_RECIPIENT)
_COMPLAINED = reject(Reason.COMPLAINED)

# Decide what becomes of an address in each status. Every status has exactly one transition, and
# each transition has a sentence that people will read. A reason is a word of `schemas/outcomes.py`,
# or a new word of your own, such as "already_unengaged": its sentence is then its meaning.
TRANSITIONS = (
    # Applied: the address gets the status TARGET. No action may make an opted-out address
    # marketable; the rules, the worker and the database all reject that.
    Transition(Status.SINGLE_OPT_IN, _APPLIED, "its owner did not engage for too long"),
    Transition(Status.DOUBLE_OPT_IN, _APPLIED, "its owner did not engage for too long"),
    Transition(Status.CONFIRMED, _APPLIED, "its owner did not engage for too long"),
    Transition(Status.UNENGAGED_MARKETABLE, _APPLIED, "its owner did not engage for too long"),
    # Unchanged: there is nothing to do. TARGET belongs here, because jobs may be repeated.
    Transition(TARGET, leave("already_unengaged"), "it is marked as unengaged already"),
    # Rejected: the change was asked for, and is rejected.
    Transition(
        Status.NON_MARKETABLE,
        reject("not_marketable"),
        "it has no permission that could lapse",
    ),
    Transition(Status.LOCKDOWN, reject(Reason.LOCKED_DOWN), "the lock-down says more"),
    Transition(Status.BOUNCE, reject(Reason.BOUNCED), "the bounces say more"),
    Transition(Status.HARD_BOUNCE, reject(Reason.HARD_BOUNCED), "the bounce says more"),
    Transition(Status.INVALID, reject(Reason.INVALID_ADDRESS), "no mail can reach it"),
    Transition(Status.DEACTIVATED, reject(Reason.DEACTIVATED_MAILBOX), "nobody reads the mailbox"),
    Transition(Status.SYSTEM, reject(Reason.SYSTEM_SUPPRESSED), "the system suppresses it"),
    Transition(Status.ADMIN, reject(Reason.OPTED_OUT_BY_ACCOUNT), "an opt-out says more"),
    Transition(Status.MANUAL, _BY_RECIPIENT, "an opt-out says more"),
    Transition(Status.LIST_UNSUBSCRIBE, _BY_RECIPIENT, "an opt-out says more"),
    Transition(Status.FEEDBACK, _COMPLAINED, "a complaint says more"),
    Transition(Status.SPAM, _COMPLAINED, "a complaint says more"),
)

_DECISIONS = {row.from_status: row.decision for row in TRANSITIONS}


class ExampleAction(BulkAction):
    """Mark marketable addresses as unengaged, so that they get no more broadcasts."""

    # The name is stored with each job: do not change it once jobs exist.
    name = "example_action"
    # Decide on one sentence for the help of the command line.
    summary = "Mark marketable addresses as unengaged."
    params = ExampleActionParams
    transitions = TRANSITIONS

    # Decide whether a job needs evidence of permission. It does if TARGET is marketable.
    needs_evidence = False
    # Decide whether its jobs go before all others, in a queue of their own, as opt-outs do.
    urgent = False
    # Decide whether the opt-out of a sibling changes the decision. If so, set this and look at
    # `state.sibling_opted_out`: a sibling is another address of the same contact.
    checks_siblings = False
    # Decide whether a change is propagated to the siblings. If so, set this and define
    # `propagation`; `actions/opt_out.py` does both.
    may_propagate = False
    # Decide whether a job may list addresses instead of contacts. If so, set this and add a
    # transition from None: an address that the account does not know gets a first status. It is
    # not possible together with `checks_siblings`.
    accepts_addresses = False

    def decide(self, state: AddressState, params: ExampleActionParams) -> Decision:
        """Return what becomes of one address, by the table above.

        Use `state` and `params` alone. Equal facts must give equal decisions, so use no
        clock and no database: a chunk asks once for all addresses that are alike. If `params`
        matter, name the interesting values in `VARIANTS` of `tests/kit/documents.py`.
        """
        del params
        return _DECISIONS[state.status]
