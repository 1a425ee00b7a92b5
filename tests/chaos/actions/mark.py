"""An action of chaos runs: gives addresses suppressing statuses that no other action sets."""

from actions.bulk_action import BulkAction, Params
from schemas.decisions import AddressState, Decision, apply, leave
from schemas.statuses import Status


class MarkParams(Params):
    """`status` is what the addresses become."""

    status: Status


class Mark(BulkAction):
    """Climbs the ladder as every suppression does, and anything else is left."""

    name = "mark"
    summary = "Mark addresses with a suppressing status."
    params = MarkParams

    def decide(self, state: AddressState, params: MarkParams) -> Decision:
        """Apply the status if its rank is higher."""
        if params.status.rank > state.rank:
            return apply(params.status)
        return leave("suppressed_as_much")
