"""Generate a contact list, such as an old provider exports, from a seed.

It has the oddities of a real list at about their real rates: second and third addresses, contacts
listed twice, mailboxes shared by families and offices, upper-case twins, unsubscribes, and rows
that cannot be imported. All domains are below example.com, .net and .org: mail reaches no one.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import NamedTuple, TextIO, TypeVar

T = TypeVar("T")

HEADER = (
    *("First Name", "Last Name", "Company", "Email", "Email Address 2", "Email Address 3"),
    "Tags",
)
UNSUBSCRIBED = "unsubscribed at old provider"
"""The tag of contacts that opted out at the old provider."""


def _parse_names(text: str) -> tuple[tuple[str, str], ...]:
    """Return each name with its spelling in an address."""
    names = (each.partition("=") for each in text.split("; "))
    return tuple((name, spelling) for name, _, spelling in names)


_GIVEN_NAMES = _parse_names(
    "Anna=anna; Björn=bjoern; Chloé=chloe; Emma=emma; Fatima=fatima; Grace=grace; "
    "José=jose; Jürgen=juergen; Liam=liam; Łukasz=lukasz; Mary Ann=mary.ann; Noah=noah; "
    "Priya=priya; Søren=soren; Tomáš=tomas; Wei=wei; Zoë=zoe"
)
_FAMILY_NAMES = _parse_names(
    "Açar=acar; Dvořák=dvorak; García=garcia; Johnson=johnson; Kovács=kovacs; "
    "Lindström=lindstroem; Müller=mueller; Nguyen=nguyen; Nowak=nowak; O'Brien=obrien; "
    "Patel=patel; Rossi=rossi; Sato=sato; Smith=smith; van den Berg=vandenberg; "
    "Williams=williams"
)
_TRADES = _parse_names(
    'Bakery=bakery; "Blue Door" Interiors=bluedoor; Books, Maps & Prints=books; '
    "Cycles=cycles; Dental=dental; Gardens=gardens; Travel=travel"
)
_MAILBOXES = (
    "mail.example.com",
    "post.example.net",
    "inbox.example.org",
    "letters.example.com",
    "webpost.example.net",
    "freemail.example.org",
    "bücherpost.example.net",
)
_ROLES = ("info", "sales", "office")
# Agencies that signed up their clients: on far more contacts than a family or office has.
_AGENCIES = ("info@agency.example.com", "sales@agency.example.com", "info@agency.example.org")
_TAGS = ("newsletter", "customers", "newsletter, customers", "")

_REMEMBERED = 2_000
_GROUPS_OPEN = 6
_BATCH_SIZE = 2_000

# Cumulative shares of the rows that are not simply another person.
_LISTED_TWICE = 0.020
_UPPER_CASE_TWIN = 0.030
_OF_A_FAMILY = 0.070
_OF_AN_OFFICE = 0.140
_OF_AN_AGENCY = 0.150
_MALFORMED = 0.156

_SECOND_ADDRESS = 0.30
_THIRD_ADDRESS = 0.04
_UNSUBSCRIBES = 0.03
_CAPITALS = 0.05


class _Person(NamedTuple):
    given_name: str
    family_name: str
    company: str
    email1: str
    email2: str
    email3: str
    tags: str


def write_sample_list(file: TextIO, *, contacts: int, seed: int = 1) -> int:
    """Write a CSV with this number of rows, including malformed ones, and return the number.

    The same seed and number give the same text. Open `file` with `newline=""` and encoding UTF-8.
    Memory does not grow with the number.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    rows = islice(_SampleList(seed).rows(), contacts)
    while batch := list(islice(rows, _BATCH_SIZE)):
        writer.writerows(batch)
    return contacts


class _SampleList:
    """Generates rows without end, and remembers some of them for later ones."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._serial = 0
        self._remembered: list[_Person] = []
        self._families: list[Iterator[_Person]] = []
        self._offices: list[Iterator[_Person]] = []

    def rows(self) -> Iterator[Sequence[str]]:
        draw = self._random.random
        while True:
            share = draw()
            if share >= _MALFORMED or not self._remembered:
                person = self._person()
                self._remember(person)
                yield person
            elif share >= _OF_AN_AGENCY:
                yield self._malformed()
            else:
                yield self._relative(share)

    def _relative(self, share: float) -> _Person:
        if share < _LISTED_TWICE:
            return self._pick(self._remembered)
        if share < _UPPER_CASE_TWIN:
            twin = self._pick(self._remembered)
            return twin._replace(email1=twin.email1.upper(), email2=twin.email2.upper())
        if share < _OF_A_FAMILY:
            return self._member(self._families, self._family)
        if share < _OF_AN_OFFICE:
            return self._member(self._offices, self._office)
        return self._person()._replace(email2=self._pick(_AGENCIES))

    def _person(
        self,
        family: tuple[str, str] | None = None,
        company: str = "",
        domain: str | None = None,
    ) -> _Person:
        draw, pick = self._random.random, self._pick
        self._serial += 1
        given_name, given = pick(_GIVEN_NAMES)
        family_name, family_part = family or pick(_FAMILY_NAMES)
        first = f"{given}.{family_part}{self._serial}"
        if draw() < _CAPITALS:
            first = first.title()
        second = third = ""
        if draw() < _SECOND_ADDRESS:
            second = f"{given[0]}{family_part}{self._serial}@{pick(_MAILBOXES)}"
            if draw() < _THIRD_ADDRESS / _SECOND_ADDRESS:
                third = f"{given}+news{self._serial}@{pick(_MAILBOXES)}"
        tags = pick(_TAGS)
        if draw() < _UNSUBSCRIBES:
            tags = f"{tags}, {UNSUBSCRIBED}" if tags else UNSUBSCRIBED
        mailbox = f"{first}@{domain or pick(_MAILBOXES)}"
        return _Person(given_name, family_name, company, mailbox, second, third, tags)

    def _family(self) -> Iterator[_Person]:
        name = self._pick(_FAMILY_NAMES)
        address = f"family.{name[1]}{self._serial}@{self._pick(_MAILBOXES)}"
        for _ in range(self._random.randint(2, 4)):
            yield self._person(name)._replace(email2=address)

    def _office(self) -> Iterator[_Person]:
        trade, label = self._pick(_TRADES)
        domain = f"{label}{self._serial}.example.com"
        company = f"{self._pick(_FAMILY_NAMES)[0]} {trade}"
        address = f"{self._pick(_ROLES)}@{domain}"
        for _ in range(self._random.randint(2, 10)):
            yield self._person(company=company, domain=domain)._replace(email2=address)

    def _member(
        self, groups: list[Iterator[_Person]], create: Callable[[], Iterator[_Person]]
    ) -> _Person:
        """Return the next member of one of the open groups, which share an address."""
        while True:
            if len(groups) < _GROUPS_OPEN:
                groups.append(create())
            place = self._random.randrange(len(groups))
            if (person := next(groups[place], None)) is not None:
                return person
            del groups[place]

    def _malformed(self) -> Sequence[str]:
        person = self._person()
        kinds: Sequence[Sequence[str]] = (
            person._replace(email1="", email2="", email3=""),
            person._replace(email1="n/a", email2="", email3=""),
            person._replace(email1=person.email1.replace("@", " at "), email2="", email3=""),
            person._replace(email1=f"mailto:{person.email1}"),
            person._replace(email2=person.email1.upper()),
            (*person, "called on Monday"),
            person[:4],
        )
        return self._pick(kinds)

    def _remember(self, person: _Person) -> None:
        if len(self._remembered) < _REMEMBERED:
            self._remembered.append(person)
        elif self._serial % 50 == 0:
            self._remembered[self._random.randrange(_REMEMBERED)] = person

    def _pick(self, among: Sequence[T]) -> T:
        # Twice as fast as Random.choice; the bias does not matter here.
        return among[int(self._random.random() * len(among))]
