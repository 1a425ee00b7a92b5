"""A model of Sluice, as simple as possible: one account, no chunks, no database.

It is written from the rules, not from the code: the tables are repeated on purpose.
"""

from collections import Counter
from dataclasses import dataclass, field

MARKETABLE = {"single_opt_in", "double_opt_in", "confirmed", "unengaged_marketable"}
RANK = {
    **dict.fromkeys(MARKETABLE, 0),
    "non_marketable": 0,
    "unengaged_non_marketable": 0,
    "lockdown": 1,
    "bounce": 1,
    "hard_bounce": 2,
    "invalid": 2,
    "deactivated": 2,
    "system": 2,
    "admin": 5,
    "manual": 6,
    "list_unsubscribe": 6,
    "feedback": 7,
    "spam": 7,
}
SPREAD_RANK = {"admin": 3, "manual": 4}
REFUSED = {
    "unengaged_non_marketable": "unengaged",
    "lockdown": "locked_down",
    "bounce": "bounced",
    "hard_bounce": "hard_bounced",
    "invalid": "invalid_address",
    "deactivated": "deactivated_mailbox",
    "system": "system_suppressed",
    "admin": "opted_out_by_account",
    "manual": "opted_out_by_recipient",
    "list_unsubscribe": "opted_out_by_recipient",
    "feedback": "complained",
    "spam": "complained",
}
NO_JOB = ("unchanged", "same_address_in_job")


@dataclass
class Model:
    """Contacts are {field: address}; a status is (name, is propagated).

    `names` are those of imported contacts. `repeats` are imported contacts that had the same
    addresses as another one; both count as one person.
    """

    limit: int
    contacts: dict[int, dict[int, str]] = field(default_factory=dict)
    statuses: dict[str, tuple[str, bool]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    repeats: set[int] = field(default_factory=set)

    def opt_in(self, contacts: list[int], fields: list[int]) -> Counter:
        """Opt in the contacts' addresses; return the counts by outcome and reason."""
        return self._each(contacts, fields, self._lift)

    def opt_out(self, contacts: list[int], fields: list[int], kind: str) -> Counter:
        """Opt out the contacts' addresses and propagate; return the counts by
        outcome and reason.
        """

        def suppress(address: str) -> tuple[str, str | None]:
            if RANK[kind] > self._rank(address):
                self.statuses[address] = (kind, False)
                return "applied", None
            return "unchanged", "already_opted_out"

        counts = self._each(contacts, fields, suppress)
        to_status = "admin" if kind == "admin" else "manual"
        for contact, held in self._selected(contacts, fields):
            if not self._in_own_right(held):
                continue
            if not self._is_role(held):
                reached = [c for c, links in self.contacts.items() if held in links.values()]
            else:
                reached = [contact] if kind == "admin" else []
            for other in reached:
                self._propagate(held, other, to_status)
        return counts

    def opt_out_addresses(self, addresses: list[str], kind: str) -> Counter:
        """Opt out each address of a list; an address without a contact is stored as opted out."""
        counts: Counter = Counter()
        for address in addresses:
            if address not in self.statuses or RANK[kind] > self._rank(address):
                self.statuses[address] = (kind, False)
                counts["applied", None] += 1
            else:
                counts["unchanged", "already_opted_out"] += 1
        to_status = "admin" if kind == "admin" else "manual"
        for address in addresses:
            if not self._is_role(address):
                for contact, links in self.contacts.items():
                    if address in links.values():
                        self._propagate(address, contact, to_status)
        return counts

    def import_rows(
        self, rows: dict[int, tuple[str, dict[int, str]]], *, permission: bool
    ) -> tuple[Counter, dict[int, int]]:
        """Import the rows in order; return the counts, and the contacts of the recognized rows."""
        before = dict(self.contacts)
        matches = {}
        for row, (name, links) in rows.items():
            contact = self._recognized(name, set(links.values()))
            if contact is None:
                self._join(row, name, links)
            else:
                matches[row] = contact
                self._extend(contact, name, links)

        def arrive(address: str) -> tuple[str, str | None]:
            if address not in self.statuses:
                first = "single_opt_in" if permission else "non_marketable"
                self.statuses[address] = (first, False)
                return "applied", None
            if permission:
                return self._lift(address, before)
            return "unchanged", "status_kept"

        counts = self._each_of({row: links for row, (_, links) in rows.items()}, [1, 2, 3], arrive)
        contacts = {matches.get(row, row) for row in rows}
        opt_outs = {
            (held, contact)
            for contact in contacts
            for held in self.contacts[contact].values()
            if self._in_own_right(held) and not self._is_role(held)
        }
        # The opt-out of the highest rank is propagated first.
        for to_status in ("manual", "admin"):
            for held, contact in opt_outs:
                if (self.statuses[held][0] == "admin") == (to_status == "admin"):
                    self._propagate(held, contact, to_status)
        return counts, matches

    def _recognized(self, name: str, wanted: set[str]) -> int | None:
        """Return the contact that the row is about, if any. One has all addresses of the other, and
        the names do not contradict.
        """
        ranked = []
        for contact, links in self.contacts.items():
            held = set(links.values())
            if not held & wanted or (name and self.names.get(contact) not in {None, "", name}):
                continue
            if held == wanted:
                ranked.append((0, contact))
            elif held > wanted:
                ranked.append((1, contact))
            elif (
                held < wanted
                and len(links) + len(wanted - held) <= 3
                and not all(map(self._is_role, held))
            ):
                ranked.append((2, contact))
        return min(ranked)[1] if ranked else None

    def _join(self, contact: int, name: str, links: dict[int, str]) -> None:
        same = any(set(of.values()) == set(links.values()) for of in self.contacts.values())
        self.contacts[contact] = links
        self.names[contact] = name
        if same:
            self.repeats.add(contact)

    def _extend(self, contact: int, name: str, links: dict[int, str]) -> None:
        self.names[contact] = self.names.get(contact) or name
        before = set(self.contacts[contact].values())
        added = [address for _, address in sorted(links.items()) if address not in before]
        if not added:
            return
        free = [number for number in (1, 2, 3) if number not in self.contacts[contact]]
        self.contacts[contact] = self.contacts[contact] | dict(zip(free, added, strict=False))
        twins = [id_ for id_, of in sorted(self.contacts.items()) if set(of.values()) == before]
        if contact in self.repeats:
            self.repeats.remove(contact)
        elif twins and self.repeats.issuperset(twins):
            self.repeats.remove(twins[0])

    def at_rest_violations(self) -> list[tuple[str, str]]:
        """Return marketable addresses that an opt-out in its own right should have been propagated
        to.
        """
        return [
            (address, other)
            for links in self.contacts.values()
            for address in links.values()
            for other in links.values()
            if self.statuses[address][0] in MARKETABLE and self._is_propagated(other, address)
        ]

    def _each(self, contacts, fields, decide) -> Counter:
        chosen = {contact: self.contacts.get(contact) for contact in sorted(set(contacts))}
        return self._each_of(chosen, fields, decide)

    def _each_of(self, chosen, fields, decide) -> Counter:
        counts: Counter = Counter()
        decided: dict[str, tuple[str, str | None]] = {}
        for links in chosen.values():
            for number in fields:
                if links is None:
                    counts["rejected", "contact_not_found"] += 1
                elif number not in links:
                    counts["empty", None] += 1
                else:
                    address = links[number]
                    if address in decided and decided[address][0] == "applied":
                        counts[NO_JOB] += 1
                    else:
                        decided[address] = decide(address)
                        counts[decided[address]] += 1
        return counts

    def _lift(self, address: str, among: dict | None = None) -> tuple[str, str | None]:
        status = self.statuses[address][0]
        if status in MARKETABLE:
            return "unchanged", "already_marketable"
        if status in REFUSED:
            return "rejected", REFUSED[status]
        for links in (self.contacts if among is None else among).values():
            if address in links.values() and any(
                self._is_propagated(other, address) for other in links.values()
            ):
                return "rejected", "sibling_opted_out"
        self.statuses[address] = ("single_opt_in", False)
        return "applied", None

    def _selected(self, contacts, fields):
        for contact in contacts:
            for number, address in self.contacts.get(contact, {}).items():
                if number in fields:
                    yield contact, address

    def _propagate(self, source: str, contact: int, to_status: str) -> None:
        for address in self.contacts[contact].values():
            if address != source and SPREAD_RANK[to_status] > self._rank(address):
                self.statuses[address] = (to_status, True)

    def _is_propagated(self, source: str, address: str) -> bool:
        return source != address and self._in_own_right(source) and not self._is_role(source)

    def _in_own_right(self, address: str) -> bool:
        return self._rank(address) >= 5

    def _is_role(self, address: str) -> bool:
        holding = [id_ for id_, links in self.contacts.items() if address in links.values()]
        persons = max(len(set(holding) - self.repeats), min(len(holding), 2))
        return persons > self.limit

    def _rank(self, address: str) -> int:
        status, is_propagated = self.statuses[address]
        return (SPREAD_RANK if is_propagated else RANK)[status]
