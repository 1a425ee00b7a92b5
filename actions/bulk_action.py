"""What a bulk action is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from schemas.decisions import AddressState, Decision
from schemas.outcomes import Outcome
from schemas.statuses import Status


class Params(BaseModel):
    """The parameters of an action; subclass it to take some. Unknown ones are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Transition(NamedTuple):
    """One row of a transition table: what happens to an address in `from_status`, and why."""

    from_status: Status | None
    outcome: Outcome
    to_status: Status | None
    reason: str | None
    because: str


class Propagation(NamedTuple):
    """How an opt-out reaches the other addresses of the same person.

    `to_status` is what they become, climbing as always. `beyond_chunk` says that it reaches every
    contact that holds the address, not only those at hand. `role_propagates_to_selected` says that
    even a role address, held by many contacts, reaches the selected contacts' other addresses.
    """

    to_status: Status
    beyond_chunk: bool
    role_propagates_to_selected: bool


class BulkAction(ABC):
    """One thing that can be done to many addresses.

    The author writes `decide` for one address; storage, counts, logs, the command line and the
    property tests pick the rest up from the attributes.
    """

    name: ClassVar[str]
    """How the action is called in SQL, logs and requests: lower case, underscores."""
    summary: ClassVar[str]
    """One sentence for people."""
    params: ClassVar[type[Params]] = Params
    needs_evidence: ClassVar[bool] = False
    """Whether a job needs evidence of permission (`schemas.evidence`)."""
    urgent: ClassVar[bool] = False
    """Whether its jobs begin before all others, and have a queue of their own."""
    checks_siblings: ClassVar[bool] = False
    """Whether `decide` needs `AddressState.sibling_opted_out`, which costs a read of siblings."""
    may_propagate: ClassVar[bool] = False
    """Whether `propagation` can give anything; the other addresses of each contact are read too."""
    creates_contacts: ClassVar[bool] = False
    """Whether the job creates its contacts from rows that were uploaded with it."""
    accepts_addresses: ClassVar[bool] = False
    """Whether a job may list addresses instead of contacts; one that is new to the account is then
    stored with the status that `decide` gives it, so that it has to give one."""
    transitions: ClassVar[tuple[Transition, ...]] = ()
    """The transition table, for the documents and tests; `decide` follows it."""

    @abstractmethod
    def decide(self, known: AddressState, params: Any) -> Decision:
        """Decide what becomes of one address. Pure: equal facts give equal decisions."""

    def reads_statuses(self, params: Any) -> bool:
        """Return whether a job that brings contacts is told statuses for them
        (`AddressState.stated`).
        """
        del params
        return False

    def propagation(self, source: Status, params: Any) -> Propagation | None:
        """Return how an opt-out in its own right with status `source` is propagated, if it is."""
        del source, params
        return None
