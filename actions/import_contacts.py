"""Import: create contacts, and give each new address its first status.

"If you do not have permission, the system assigns a non-marketable status; if you do, single
opt-in" (seeds 000 to 002: `docs/glossary.md`). An existing address keeps its status, unless a
permission opts it in by the rules of `opt_in`.

A file may state statuses itself, as an export of Keap does. A stated suppression is believed. A
stated marketable status counts only with permission, which the importer claims and no column does.
An existing address takes a stated status only if that has a higher rank.
"""

from typing import Annotated

from pydantic import Field, StrictBool, StringConstraints

from actions.bulk_action import BulkAction, Params, Propagation, Transition
from actions.opt_in import OPT_IN_TRANSITIONS, decide_opt_in
from schemas.decisions import AddressState, Decision, apply, leave
from schemas.outcomes import Reason
from schemas.requests import ShortText
from schemas.statuses import MARKETABLE, Status


class ImportParams(Params):
    """What the importer claims and adds."""

    permission: StrictBool = Field(
        description="true if these contacts gave permission for broadcasts"
    )
    permission_claimed_by: str | None = Field(None, description="who claims the permission")
    tag: Annotated[ShortText, StringConstraints(strip_whitespace=True)] | None = Field(
        None, description="a tag for every imported contact"
    )
    statuses: StrictBool | None = Field(None, description="true if the file states statuses")


class ImportContacts(BulkAction):
    """Create contacts from uploaded rows and give new addresses their first status."""

    name = "import"
    summary = "Import contacts from a file."
    params = ImportParams
    checks_siblings = True
    may_propagate = True
    creates_contacts = True
    transitions = (
        Transition(
            None,
            apply(Status.SINGLE_OPT_IN),
            "new to the account; without permission it becomes non_marketable instead",
        ),
        *OPT_IN_TRANSITIONS,
    )

    def decide(self, state: AddressState, params: ImportParams) -> Decision:
        """Give a new address its first status.

        An existing one takes a stated status of a higher rank; otherwise, with permission, the
        opt-in table applies.
        """
        stated = state.stated
        if state.status is None:
            return apply(_first_status(stated, permission=params.permission))
        if stated is not None and stated.rank > state.rank:
            return apply(stated)
        if params.permission and (stated is None or stated in MARKETABLE):
            return decide_opt_in(state)
        return leave(Reason.STATUS_KEPT)

    def reads_statuses(self, params: ImportParams) -> bool:
        """Return whether the file states statuses."""
        return params.statuses is True

    def propagation(self, from_status: Status, params: ImportParams) -> Propagation:
        """Propagate to a new sibling of an opted-out address as if the opt-out had happened now.

        Opt-outs that the file states are propagated as those of a bulk opt-out are.
        """
        reads_statuses = self.reads_statuses(params)
        is_by_account = reads_statuses or from_status is Status.ADMIN
        return Propagation(
            to_status=Status.ADMIN if is_by_account else Status.MANUAL,
            beyond_chunk=reads_statuses,
            role_propagates_to_selected=False,
        )


def _first_status(stated: Status | None, *, permission: bool) -> Status:
    if stated is not None and stated not in MARKETABLE:
        return stated
    if not permission:
        return Status.NON_MARKETABLE
    return Status.SINGLE_OPT_IN if stated is None else stated
