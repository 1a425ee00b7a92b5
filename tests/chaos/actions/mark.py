"""An action of chaos runs that sets suppressing statuses, which no other action sets."""

from actions.bulk_action import BulkAction, Params
from schemas.decisions import AddressState, Decision, apply, leave
from schemas.statuses import Status


class MarkParams(Params):
    """`status` is the new status of the addresses."""

    status: Status


class Mark(BulkAction):
    """Replaces lower ranks, as every suppression does, and leaves the rest unchanged."""

    name = "mark"
    summary = "Mark addresses with a suppressing status."
    params = MarkParams

    def decide(self, state: AddressState, params: MarkParams) -> Decision:
        """Apply the status if its rank is higher."""
        if params.status.rank > state.rank:
            return apply(params.status)
        return leave("suppressed_as_much")
