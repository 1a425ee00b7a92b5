"""Whom the rows of an import are about: contacts that the account has, or people who are new to it.

Pure. A person who is imported again stays one contact: otherwise the person's own addresses would
come to look like role addresses, and an opt-out would no longer reach all of them. And two people
are not made one, since an opt-out of the one would then reach the other.
"""

from collections.abc import Iterable, Mapping, Sequence

from schemas.recognition import Addition, ArrivingRow, Candidate, Recognised
from schemas.requests import FIELD_NUMBERS

FIELDS = tuple(FIELD_NUMBERS.values())


def recognise(
    rows: Iterable[ArrivingRow], candidates: Sequence[Candidate], role_addresses: frozenset[str]
) -> Recognised:
    """Tell which rows are about a candidate, or about the contact that an earlier row becomes.

    A row is about the contact that has its external id, if an address is the same too and the given
    name does not contradict, or, where it is about nobody else, if both names are the same. (Two
    systems number their contacts alike, and some files just number their rows.) Otherwise it is
    about a contact of which no name contradicts and which has all of the row's addresses, or whose
    addresses the row has, all of them: the others go into fields that are free. (One address in
    common is not enough: a couple may share it.) Another external id contradicts, unless the
    contact has all of the row's addresses and a name of it. Nobody is extended through
    `role_addresses` alone.
    """
    return _Recogniser(candidates, role_addresses).recognise(rows)


class _Recogniser:
    def __init__(self, candidates: Sequence[Candidate], role_addresses: frozenset[str]) -> None:
        self._role_addresses = role_addresses
        self._found = Recognised()
        self._by_external_id: dict[str, Candidate] = {}
        self._by_key: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            self._know(candidate)

    def recognise(self, rows: Iterable[ArrivingRow]) -> Recognised:
        for row in rows:
            wanted = dict.fromkeys(key for key in row.match_keys if key is not None)
            contact = self._contact_of(row, frozenset(wanted))
            if contact is None:
                self._make(row, frozenset(wanted))
            else:
                self._match(row, contact, wanted)
        return self._found

    def _know(self, candidate: Candidate) -> None:
        if candidate.external_id is not None:
            self._by_external_id.setdefault(candidate.external_id, candidate)
        for key in candidate.held:
            self._by_key.setdefault(key, []).append(candidate)

    def _contact_of(self, row: ArrivingRow, wanted: frozenset[str]) -> Candidate | None:
        known = self._by_external_id.get(row.external_id or "")
        if known is not None and not _has_room(known, wanted):
            known = None
        if known is not None and known.held >= wanted:
            return known
        by_addresses = self._by_addresses(row, wanted)
        if known is None or (by_addresses is not None and by_addresses.held >= wanted):
            # Who has all of the row's addresses is its contact rather than one that gets them.
            return by_addresses
        if known.held & wanted and not _differ(row.given_name, known.given_name):
            return known
        if by_addresses is None and _is_namesake(row, known):
            return known
        return by_addresses

    def _by_addresses(self, row: ArrivingRow, wanted: frozenset[str]) -> Candidate | None:
        around = {
            id(candidate): candidate for key in wanted for candidate in self._by_key.get(key, ())
        }
        ranked = [
            (rank, candidate.id, candidate)
            for candidate in around.values()
            if not _names_contradict(row, candidate)
            and (rank := self._rank(candidate.held, wanted)) is not None
            and (not _ids_differ(row, candidate) or (rank <= 1 and _share_a_name(row, candidate)))
        ]
        return min(ranked)[2] if ranked else None

    def _rank(self, held: frozenset[str], wanted: frozenset[str]) -> int | None:
        """How well the addresses agree, 0 the best; None where they do not."""
        if held == wanted:
            return 0
        if held > wanted:
            return 1
        if held < wanted and len(wanted) <= len(FIELDS) and not held <= self._role_addresses:
            return 2
        return None

    def _match(self, row: ArrivingRow, contact: Candidate, wanted: Mapping[str, None]) -> None:
        found, before = self._found, contact.held
        found.matches[row.id] = contact.id
        free = [number for number in FIELDS if number not in contact.match_keys]
        for key in wanted:
            if key not in before:
                number = free.pop(0)
                contact.match_keys[number] = key
                found.additions.append(Addition(contact.id, number, key, row.id))
                self._by_key.setdefault(key, []).append(contact)
        found.fields[row.id] = frozenset(
            number for number, key in contact.match_keys.items() if key in wanted
        )
        if len(before) < len(contact.match_keys):
            self._let_count(contact, before)
        self._update(row, contact)

    def _let_count(self, contact: Candidate, before: frozenset[str]) -> None:
        """The contact has other addresses than those with which it was one person."""
        twins = {
            twin.id: twin for key in before for twin in self._by_key[key] if twin.held == before
        }
        if contact.is_repeat:
            self._count(contact)
        elif twins and all(twin.is_repeat for twin in twins.values()):
            self._count(twins[min(twins)])

    def _count(self, contact: Candidate) -> None:
        contact.is_repeat = False
        if contact.id in self._found.repeats:
            self._found.repeats.remove(contact.id)
        else:
            self._found.counting.add(contact.id)

    def _update(self, row: ArrivingRow, contact: Candidate) -> None:
        by_id = row.external_id is not None and row.external_id == contact.external_id
        changed = False
        for name in ("given_name", "family_name", "company"):
            said, known = getattr(row, name), getattr(contact, name)
            if said and said != known and (by_id or not known):
                setattr(contact, name, said)
                changed = True
        if row.external_id is not None and contact.external_id is None:
            taken = row.external_id in self._by_external_id
            if not taken:
                contact.external_id = row.external_id
                self._by_external_id[row.external_id] = contact
                changed = True
        if changed:
            self._found.updated[contact.id] = contact

    def _make(self, row: ArrivingRow, wanted: frozenset[str]) -> None:
        external_id = row.external_id
        if external_id is not None and external_id in self._by_external_id:
            self._found.without_external_id.add(row.id)
            external_id = None
        around = (twin for key in wanted for twin in self._by_key.get(key, ()))
        is_repeat = any(twin.held == wanted for twin in around)
        if is_repeat:
            self._found.repeats.add(row.id)
        self._know(
            Candidate(
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


def _has_room(known: Candidate, wanted: frozenset[str]) -> bool:
    return len(known.held | wanted) <= len(FIELDS)


def _ids_differ(row: ArrivingRow, candidate: Candidate) -> bool:
    """Whether both have an id: they are two records of one system, or one each of two systems."""
    ids = row.external_id, candidate.external_id
    return None not in ids and ids[0] != ids[1]


def _is_namesake(row: ArrivingRow, candidate: Candidate) -> bool:
    """Whether both have a given and a family name, and both are the same."""
    names = row.given_name, candidate.given_name, row.family_name, candidate.family_name
    return all(names) and not _names_contradict(row, candidate)


def _share_a_name(row: ArrivingRow, candidate: Candidate) -> bool:
    return bool(
        (row.given_name and candidate.given_name) or (row.family_name and candidate.family_name)
    )


def _names_contradict(row: ArrivingRow, candidate: Candidate) -> bool:
    return _differ(row.given_name, candidate.given_name) or _differ(
        row.family_name, candidate.family_name
    )


def _differ(one: str | None, other: str | None) -> bool:
    return bool(one and other) and _plain(one) != _plain(other)


def _plain(name: str | None) -> str:
    return " ".join((name or "").split()).casefold()
