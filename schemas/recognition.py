"""What the recognition of import rows reads, and its result."""

from dataclasses import dataclass, field
from typing import NamedTuple


class RowToRecognize(NamedTuple):
    """An import row; `match_keys` has three values, one for each field; None for an empty field."""

    id: int
    given_name: str | None
    family_name: str | None
    company: str | None
    external_id: str | None
    match_keys: tuple[str | None, str | None, str | None]


@dataclass(slots=True)
class ContactCandidate:
    """A contact that a row may be about, with the match keys of its addresses by field."""

    id: int
    given_name: str | None
    family_name: str | None
    company: str | None
    external_id: str | None
    is_repeat: bool
    match_keys: dict[int, str]

    @property
    def held(self) -> frozenset[str]:
        """Return the match keys of the contact's addresses."""
        return frozenset(self.match_keys.values())


class AddedAddress(NamedTuple):
    """An address that a recognized row adds to its contact."""

    contact_id: int
    field: int
    match_key: str
    item_id: int


@dataclass(slots=True)
class RecognitionResult:
    """What became of the rows.

    `matches` maps each recognized row to its contact. `additions` are addresses that such rows add
    to their contacts. `fields` maps a row to the contact's fields that hold the row's addresses. It
    has the recognized rows, and the rows whose contacts they are about.

    All other rows become contacts. Rows in `repeats` have the same addresses as another contact.
    Rows in `without_external_id` lose their external id, because another contact has it.

    `counting` are stored contacts that were repeats and count again, because their addresses are no
    longer the same as another contact's. `updated` are contacts that rows gave a name, a company or
    an external id.
    """

    matches: dict[int, int] = field(default_factory=dict)
    fields: dict[int, frozenset[int]] = field(default_factory=dict)
    additions: list[AddedAddress] = field(default_factory=list)
    repeats: set[int] = field(default_factory=set)
    without_external_id: set[int] = field(default_factory=set)
    counting: set[int] = field(default_factory=set)
    updated: dict[int, ContactCandidate] = field(default_factory=dict)
