"""Which contacts the rows of an import are about: existing ones, or new ones.

Pure. A person who is imported again stays one contact: otherwise the person's addresses would look
like role addresses, and an opt-out would no longer reach all of them. And two people do not become
one, since an opt-out of one would then reach the other.

Each row sees what the rows before it made of the account. So a chunk gives the contacts that its
rows would give one at a time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from schemas.recognition import AddedAddress, ContactCandidate, RecognitionResult, RowToRecognize
from schemas.requests import FIELD_NUMBERS

FIELDS = tuple(FIELD_NUMBERS.values())


class ContactCounts:
    """How many contacts hold each address, kept up to date while rows become contacts.

    `known` has the match key, the contact count and the repeat count of each address that the
    account has; all others start with none.
    """

    def __init__(
        self,
        known: Iterable[tuple[str, int, int]],
        *,
        role_address_limit: int,
        max_contacts: int,
    ) -> None:
        self._role_address_limit = role_address_limit
        self._max_contacts = max_contacts
        self._contacts: Counter[str] = Counter()
        self._repeats: Counter[str] = Counter()
        for key, contacts, repeats in known:
            self._contacts[key] = contacts
            self._repeats[key] = repeats

    def add_contact(self, keys: Iterable[str], *, is_repeat: bool) -> None:
        """Count a contact that gets these addresses."""
        for key in keys:
            self._contacts[key] += 1
            self._repeats[key] += is_repeat

    def unmark_repeat(self, keys: Iterable[str]) -> None:
        """Count a contact with these addresses, which was a repeat, as a person."""
        self._repeats.subtract(keys)

    def is_role_address(self, key: str) -> bool:
        """Return whether the person count is above the limit, as `person_count` in SQL has it."""
        contacts = self._contacts[key]
        return max(contacts - self._repeats[key], min(contacts, 2)) > self._role_address_limit

    def can_recognize(self, key: str) -> bool:
        """Return whether few enough contacts hold the address to look for one among them."""
        return self._contacts[key] <= self._max_contacts


def recognize(
    rows: Iterable[RowToRecognize],
    candidates: Sequence[ContactCandidate],
    counts: ContactCounts,
) -> RecognitionResult:
    """Tell which rows are about a candidate, or about the contact that an earlier row becomes.

    A row is about the contact with its external id if they share an address and the given names do
    not differ. It is also about that contact if both names are equal and no other contact fits.
    (The id alone is not enough: two systems use the same numbers, and some files just number their
    rows.)

    Otherwise a row is about a contact that has all of its addresses, if no name differs. The same
    holds for a contact all of whose addresses the row has; its free fields take the others. (One
    common address is not enough: a couple may share it.) A different external id excludes a
    contact, unless it has all of the row's addresses and shares a name. A contact whose addresses
    are all role addresses gets no further ones. An address of more than `max_contacts` contacts
    recognizes none. `counts` change with the rows.
    """
    return _Recognizer(candidates, counts).recognize(rows)


class _Recognizer:
    def __init__(self, candidates: Sequence[ContactCandidate], counts: ContactCounts) -> None:
        self._counts = counts
        self._result = RecognitionResult()
        self._created: set[int] = set()
        self._by_external_id: dict[str, ContactCandidate] = {}
        self._by_key: dict[str, list[ContactCandidate]] = {}
        for candidate in candidates:
            self._add_candidate(candidate)

    def recognize(self, rows: Iterable[RowToRecognize]) -> RecognitionResult:
        for row in rows:
            wanted = dict.fromkeys(key for key in row.match_keys if key is not None)
            contact = self._find_contact(row, frozenset(wanted))
            if contact is None:
                self._add_contact(row, frozenset(wanted))
            else:
                self._match_row(row, contact, wanted)
        return self._result

    def _add_candidate(self, candidate: ContactCandidate) -> None:
        if candidate.external_id is not None:
            self._by_external_id.setdefault(candidate.external_id, candidate)
        for key in candidate.held:
            self._by_key.setdefault(key, []).append(candidate)

    def _find_contact(self, row: RowToRecognize, wanted: frozenset[str]) -> ContactCandidate | None:
        by_id = self._by_external_id.get(row.external_id or "")
        if by_id is not None and not _has_room(by_id, wanted):
            by_id = None
        if by_id is not None and by_id.held >= wanted:
            return by_id
        by_addresses = self._find_by_addresses(row, wanted)
        if by_id is None or (by_addresses is not None and by_addresses.held >= wanted):
            # A contact that has all of the row's addresses comes before one that would gain some.
            return by_addresses
        if by_id.held & wanted and not _are_different(row.given_name, by_id.given_name):
            return by_id
        if by_addresses is None and _is_namesake(row, by_id):
            return by_id
        return by_addresses

    def _find_by_addresses(
        self, row: RowToRecognize, wanted: frozenset[str]
    ) -> ContactCandidate | None:
        sharing = {id(candidate): candidate for candidate in self._find_sharing(wanted)}
        ranked = [
            (rank, candidate.id, candidate)
            for candidate in sharing.values()
            if not _names_contradict(row, candidate)
            and (rank := self._rank_agreement(candidate, wanted)) is not None
            and (not _ids_differ(row, candidate) or (rank <= 1 and _share_a_name(row, candidate)))
        ]
        return min(ranked)[2] if ranked else None

    def _find_sharing(self, wanted: frozenset[str]) -> Iterator[ContactCandidate]:
        """Yield the contacts that hold one of the addresses, once for each."""
        for key in wanted:
            if self._counts.can_recognize(key):
                yield from self._by_key.get(key, ())

    def _rank_agreement(self, candidate: ContactCandidate, wanted: frozenset[str]) -> int | None:
        """Return how well the addresses agree, 0 the best; None where they do not."""
        held = candidate.held
        if held == wanted:
            return 0
        if held > wanted:
            return 1
        is_known = held < wanted and not all(map(self._counts.is_role_address, held))
        if is_known and _has_room(candidate, wanted):
            return 2
        return None

    def _match_row(
        self, row: RowToRecognize, contact: ContactCandidate, wanted: Mapping[str, None]
    ) -> None:
        found, before = self._result, contact.held
        found.matches[row.id] = contact.id
        if contact.id in self._created:
            found.fields.setdefault(contact.id, frozenset(contact.match_keys))
        free = [number for number in FIELDS if number not in contact.match_keys]
        for key in wanted:
            if key not in before:
                number = free.pop(0)
                contact.match_keys[number] = key
                found.additions.append(AddedAddress(contact.id, number, key, row.id))
                self._counts.add_contact([key], is_repeat=contact.is_repeat)
                self._by_key.setdefault(key, []).append(contact)
        found.fields[row.id] = frozenset(
            number for number, key in contact.match_keys.items() if key in wanted
        )
        if len(before) < len(contact.match_keys):
            self._unmark_repeats(contact, before)
        self._update_contact(row, contact)

    def _unmark_repeats(self, contact: ContactCandidate, before: frozenset[str]) -> None:
        """Count the contact again: its addresses differ from those that made it a repeat."""
        twins = {
            twin.id: twin for key in before for twin in self._by_key[key] if twin.held == before
        }
        if contact.is_repeat:
            self._unmark_repeat(contact)
        elif twins and all(twin.is_repeat for twin in twins.values()):
            self._unmark_repeat(twins[min(twins)])

    def _unmark_repeat(self, contact: ContactCandidate) -> None:
        contact.is_repeat = False
        self._counts.unmark_repeat(contact.held)
        if contact.id in self._result.repeats:
            self._result.repeats.remove(contact.id)
        else:
            self._result.counting.add(contact.id)

    def _update_contact(self, row: RowToRecognize, contact: ContactCandidate) -> None:
        by_id = row.external_id is not None and row.external_id == contact.external_id
        changed = False
        for name in ("given_name", "family_name", "company"):
            new, old = getattr(row, name), getattr(contact, name)
            if new and new != old and (by_id or not old):
                setattr(contact, name, new)
                changed = True
        if row.external_id is not None and contact.external_id is None:
            taken = row.external_id in self._by_external_id
            if not taken:
                contact.external_id = row.external_id
                self._by_external_id[row.external_id] = contact
                changed = True
        if changed:
            self._result.updated[contact.id] = contact

    def _add_contact(self, row: RowToRecognize, wanted: frozenset[str]) -> None:
        external_id = row.external_id
        if external_id is not None and external_id in self._by_external_id:
            self._result.without_external_id.add(row.id)
            external_id = None
        is_repeat = any(twin.held == wanted for twin in self._find_sharing(wanted))
        if is_repeat:
            self._result.repeats.add(row.id)
        self._counts.add_contact(wanted, is_repeat=is_repeat)
        self._created.add(row.id)
        self._add_candidate(
            ContactCandidate(
                row.id,
                row.given_name,
                row.family_name,
                row.company,
                external_id,
                is_repeat,
                {
                    number: key
                    for number, key in zip(FIELDS, row.match_keys, strict=True)
                    if key is not None
                },
            )
        )


def _has_room(candidate: ContactCandidate, wanted: frozenset[str]) -> bool:
    # A contact may hold one address in several fields.
    return len(candidate.match_keys) + len(wanted - candidate.held) <= len(FIELDS)


def _ids_differ(row: RowToRecognize, candidate: ContactCandidate) -> bool:
    """Return whether both have an id, and not the same one."""
    ids = row.external_id, candidate.external_id
    return None not in ids and ids[0] != ids[1]


def _is_namesake(row: RowToRecognize, candidate: ContactCandidate) -> bool:
    """Return whether both have a given and a family name, and both are the same."""
    names = row.given_name, candidate.given_name, row.family_name, candidate.family_name
    return all(names) and not _names_contradict(row, candidate)


def _share_a_name(row: RowToRecognize, candidate: ContactCandidate) -> bool:
    return bool(
        (row.given_name and candidate.given_name) or (row.family_name and candidate.family_name)
    )


def _names_contradict(row: RowToRecognize, candidate: ContactCandidate) -> bool:
    return _are_different(row.given_name, candidate.given_name) or _are_different(
        row.family_name, candidate.family_name
    )


def _are_different(one: str | None, other: str | None) -> bool:
    return bool(one and other) and _normalize_name(one) != _normalize_name(other)


def _normalize_name(name: str | None) -> str:
    return " ".join((name or "").split()).casefold()
