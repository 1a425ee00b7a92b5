"""The base class of bulk actions.

`sluice new-action NAME` writes a new one with its test; see `docs/extending.md`.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from schemas.decisions import AddressState, Decision
from schemas.statuses import Status


class Params(BaseModel):
    """The parameters of an action; subclass it to add some. Unknown ones are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Transition(NamedTuple):
    """One row of a transition table: the decision on an address in `from_status`, and why.

    `from_status` is None for an address that is new to the account.
    """

    from_status: Status | None
    decision: Decision
    because: str


class Propagation(NamedTuple):
    """How an opt-out is propagated to the siblings of its address.

    Siblings of a lower rank get `to_status`. With `beyond_chunk` the siblings on every contact that
    holds the address count, not only those on the chunk's contacts. With
    `role_propagates_to_selected` even a role address propagates, on the selected contacts.
    """

    to_status: Status
    beyond_chunk: bool
    role_propagates_to_selected: bool


class BulkAction(ABC):
    """What a job does to each of its addresses.

    Write `decide` for one address, and set the attributes. Storage, counts, logs, the command line
    and the property tests follow from them.
    """

    name: ClassVar[str]
    """The name in SQL, logs and requests: lower case, with underscores."""
    summary: ClassVar[str]
    """One sentence for people."""
    params: ClassVar[type[Params]] = Params
    needs_evidence: ClassVar[bool] = False
    """A job needs evidence of permission (`schemas.evidence`)."""
    urgent: ClassVar[bool] = False
    """Its jobs have a queue of their own, and workers begin them first."""
    checks_siblings: ClassVar[bool] = False
    """`decide` needs `AddressState.sibling_opted_out`, so `engine/chunk_reader.py` finds it."""
    may_propagate: ClassVar[bool] = False
    """`propagation` may return something, so the siblings on each contact are read too."""
    creates_contacts: ClassVar[bool] = False
    """A job creates its contacts from uploaded rows."""
    accepts_addresses: ClassVar[bool] = False
    """A job may list addresses instead of contacts. An address that is new to the account is stored
    with the status from `decide`, which must return one. The siblings of listed addresses are not
    checked, so this excludes `checks_siblings`."""
    transitions: ClassVar[tuple[Transition, ...]] = ()
    """The transition table that `decide` follows, for documents and tests."""

    def __init_subclass__(cls) -> None:
        if cls.checks_siblings and cls.accepts_addresses:
            raise TypeError(
                f"{cls.__name__} has both checks_siblings and accepts_addresses, but the siblings"
                " of listed addresses are not checked. Set one of them."
            )

    @abstractmethod
    def decide(self, state: AddressState, params: Any) -> Decision:
        """Decide what becomes of one address. Pure: equal facts give equal decisions."""

    def reads_statuses(self, params: Any) -> bool:
        """Return whether the job's file states statuses (`AddressState.stated`)."""
        del params
        return False

    def propagation(self, from_status: Status, params: Any) -> Propagation | None:
        """Return how an opt-out in its own right with this status is propagated, if it is."""
        del from_status, params
        return None
