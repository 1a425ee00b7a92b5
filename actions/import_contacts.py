"""Import: contacts arrive, each address with a first status, and opt-outs keep what they cover.

"If you do not have permission, the system assigns a non-marketable status; if you do, single
opt-in" (seeds 000, 001, 002). An address that exists keeps its status, but for a permission that
lifts it by the rules of an opt-in.
"""

from pydantic import Field

from actions.bulk_action import BulkAction, Edge, Params, Spread
from actions.opt_in import OPT_IN_EDGES, decide_opt_in
from schemas.decisions import Decision, Known, apply, leave
from schemas.outcomes import Outcome, Reason
from schemas.statuses import Status


class ImportParams(Params):
    """`permission` is what the importer claims; `permission_claimed_by` is who claims it."""

    permission: bool = Field(description="whether these contacts gave permission for broadcasts")
    permission_claimed_by: str | None = Field(None, description="who claims the permission")
    tag: str | None = Field(None, description="a tag for every imported contact")


class ImportContacts(BulkAction):
    """Creates contacts from uploaded rows and gives new addresses their first status."""

    name = "import"
    summary = "Import contacts from a file."
    params = ImportParams
    refused_beside_opt_out = True
    may_spread = True
    brings_contacts = True
    edges = (
        Edge(
            None,
            Outcome.APPLIED,
            Status.SINGLE_OPT_IN,
            None,
            "new to the account; without permission it becomes non_marketable instead",
        ),
        *OPT_IN_EDGES,
    )

    def decide(self, known: Known, params: ImportParams) -> Decision:
        """A first status for a new address; the opt-in table for a known one, given permission."""
        if known.status is None:
            return apply(Status.SINGLE_OPT_IN if params.permission else Status.NON_MARKETABLE)
        if params.permission:
            return decide_opt_in(known)
        return leave(Reason.STATUS_KEPT)

    def spread(self, source: Status, params: ImportParams) -> Spread:
        """What arrives beside an opted-out address is opted out as if that had happened now."""
        del params
        return Spread(
            to_status=Status.ADMIN if source == Status.ADMIN else Status.MANUAL,
            beyond_chunk=False,
            role_reaches_selected=False,
        )
