"""The storm's own action: gives addresses suppressing statuses that no other action sets."""

from actions.bulk_action import BulkAction, Params
from schemas.decisions import AddressState, Decision, apply, leave
from schemas.statuses import FACTS, Status, rank_of


class MarkParams(Params):
    """`status` is what the addresses become."""

    status: Status


class Mark(BulkAction):
    """Climbs the ladder as every suppression does, and anything else is left."""

    name = "mark"
    summary = "Mark addresses with a suppressing status."
    params = MarkParams

    def decide(self, known: AddressState, params: MarkParams) -> Decision:
        """Applied where it climbs."""
        present = (
            -1
            if known.status is None
            else rank_of(Status(known.status), is_propagated=known.is_propagated)
        )
        if FACTS[params.status].rank > present:
            return apply(params.status)
        return leave("suppressed_as_much")
