"""Opt out: suppress addresses and their siblings.

A status is replaced only by one of a higher rank, so neither order nor repetition matters.
Propagation to siblings is what the script of seed 003 was written for (`docs/glossary.md`).
"""

from typing import Literal

from pydantic import AwareDatetime, Field

from actions.bulk_action import BulkAction, Params, Propagation, Transition
from schemas.decisions import AddressState, Decision, apply, leave
from schemas.outcomes import Reason
from schemas.statuses import Status


class OptOutParams(Params):
    """Who opted out, and what is kept about it."""

    kind: Literal[
        Status.ADMIN, Status.MANUAL, Status.LIST_UNSUBSCRIBE, Status.FEEDBACK, Status.SPAM
    ] = Field(
        Status.ADMIN,
        description="who opted out: admin (a user of the account), or the recipient: manual,"
        " list_unsubscribe, feedback or spam",
    )
    note: str | None = Field(None, max_length=2000, description="why; kept with the job")
    source: str | None = Field(
        None, min_length=1, max_length=200, description="which system the opt-out came from"
    )
    occurred_at: AwareDatetime | None = Field(
        None, description="when the recipient did it, with a time zone, if that is known"
    )


def _transition(status: Status) -> Transition:
    if status.rank < Status.ADMIN.rank:
        return Transition(status, apply(Status.ADMIN), "an opt-out has a higher rank")
    return Transition(
        status,
        leave(Reason.ALREADY_OPTED_OUT),
        "its rank is at least as high already; the opt-out is still propagated to its siblings",
    )


class OptOut(BulkAction):
    """Opt addresses out in their own right, and propagate that to their siblings."""

    name = "opt_out"
    summary = "Opt addresses out, and with them the other addresses of the same contacts."
    params = OptOutParams
    urgent = True
    may_propagate = True
    accepts_addresses = True
    transitions = (
        Transition(
            None,
            apply(Status.ADMIN),
            "new to the account; it is kept as suppressed, so that no import makes it marketable",
        ),
        *(_transition(status) for status in Status),
    )

    def decide(self, state: AddressState, params: OptOutParams) -> Decision:
        """Replace every status of a lower rank, also one that was propagated."""
        if params.kind.rank > state.rank:
            return apply(params.kind)
        return leave(Reason.ALREADY_OPTED_OUT)

    def propagation(self, from_status: Status, params: OptOutParams) -> Propagation:
        """Propagate as `admin` if a user of the account opted the address out, as `manual` if the
        recipient did.
        """
        del from_status
        is_by_account = params.kind is Status.ADMIN
        return Propagation(
            to_status=Status.ADMIN if is_by_account else Status.MANUAL,
            beyond_chunk=True,
            role_propagates_to_selected=is_by_account,
        )
