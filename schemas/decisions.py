"""What a bulk action is told about an address, and what it answers."""

from typing import NamedTuple

from schemas.outcomes import Outcome
from schemas.statuses import Status, rank_of


class AddressState(NamedTuple):
    """All that a decision may depend on. Equal facts always lead to equal decisions.

    `status` is None for an address that the job itself creates. `is_propagated` says that the
    status was propagated. `sibling_opted_out` says that a sibling is opted out in its own right;
    a role address does not count as such a sibling. It is False for actions that do not ask for it
    (`BulkAction.checks_siblings`). `stated` is the status that the file of an import states.
    """

    status: Status | None
    is_propagated: bool = False
    sibling_opted_out: bool = False
    stated: Status | None = None

    @property
    def rank(self) -> int:
        """The rank of the status; -1 for an address without one."""
        if self.status is None:
            return -1
        return rank_of(self.status, is_propagated=self.is_propagated)


class Decision(NamedTuple):
    """What becomes of one address. `to_status` is set exactly when `outcome` is applied."""

    outcome: Outcome
    to_status: Status | None = None
    reason: str | None = None


def apply(status: Status) -> Decision:
    """Decide that the address changes to `status`."""
    return Decision(Outcome.APPLIED, status)


def leave(reason: str) -> Decision:
    """Decide that nothing needs to change, for `reason`."""
    return Decision(Outcome.UNCHANGED, None, reason)


def reject(reason: str) -> Decision:
    """Decide that the address must not change, for `reason`."""
    return Decision(Outcome.REJECTED, None, reason)
