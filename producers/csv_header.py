"""Which column of a contact CSV means what."""

import csv
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from producers.import_refusals import quoted
from schemas.errors import WrongInput

DELIMITERS = ",;\t|"
ADDRESS_MEANINGS = ("email1", "email2", "email3")
IGNORE = "ignore"
MEANINGS = (*ADDRESS_MEANINGS, "given_name", "family_name", "company", "tags", IGNORE)

_SHOWN_HEADERS = 30
_SHOWN_CHARACTERS = 60

# The headers that Keap exports, and what other systems write instead, without case, spaces or
# punctuation.
_KNOWN = {
    "firstname": "given_name",
    "givenname": "given_name",
    "forename": "given_name",
    "lastname": "family_name",
    "familyname": "family_name",
    "surname": "family_name",
    "company": "company",
    "companyname": "company",
    "organization": "company",
    "organisation": "company",
    "tags": "tags",
    "email": "email1",
    "mail": "email1",
    "emailaddress": "email1",
} | {
    f"{name}{number}": f"email{number}"
    for name in ("email", "mail", "emailaddress")
    for number in (1, 2, 3)
}


class Columns(NamedTuple):
    """Where each meaning is found in a row; an absent one points just behind the row's last cell.

    `addresses` pairs a field's place (0 to 2) with its column. `width` is how many cells a row
    must have.
    """

    delimiter: str
    width: int
    given_name: int
    family_name: int
    company: int
    tags: int
    addresses: tuple[tuple[int, int], ...]


def read_header(header: str, mapping: Mapping[str, str]) -> Columns:
    """The columns of a file from its header line; `mapping` (header to meaning) goes first.

    Raises WrongInput for a header without an address column, with two columns of one name or
    meaning, and for a mapping that names an unknown header or meaning.
    """
    candidates = [
        (delimiter, cells) for delimiter in DELIMITERS if (cells := _cells(header, delimiter))
    ]
    if not candidates:
        raise WrongInput(
            "The file's first line has a quotation mark that is not closed, or text after one;"
            " nothing was stored. Mend the line of headers and import the file again."
        )
    given = {_plain(name): meaning for name, meaning in mapping.items()}
    delimiter, headers = max(
        candidates, key=lambda found: (len(_recognised(found[1], given)), len(found[1]))
    )
    _require_single_names(headers)
    _require_known(mapping, headers)
    return _columns(delimiter, headers, _recognised(headers, given))


def _cells(header: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
    while cells and not cells[-1].strip():
        cells.pop()
    return [cell.strip() for cell in cells]


def _plain(header: str) -> str:
    return " ".join(header.split()).casefold()


def _recognised(headers: Sequence[str], given: Mapping[str, str]) -> list[tuple[int, str]]:
    """The columns that mean something, by place, those to be ignored left out."""
    meanings = (
        (place, given.get(_plain(header)) or _KNOWN.get(re.sub(r"[\W_]", "", header).casefold()))
        for place, header in enumerate(headers)
    )
    return [(place, meaning) for place, meaning in meanings if meaning and meaning != IGNORE]


def _require_single_names(headers: Sequence[str]) -> None:
    names = [_plain(header) for header in headers if header]
    for header in headers:
        if names.count(_plain(header)) > 1:
            raise WrongInput(
                f"The file has two columns of one name, {_shown([header])}; nothing was stored."
                " Rename or remove one of them and import the file again."
            )


def _require_known(mapping: Mapping[str, str], headers: Sequence[str]) -> None:
    names = {_plain(header) for header in headers}
    for header, meaning in mapping.items():
        if meaning not in MEANINGS:
            raise WrongInput(
                f'"{_cut(header)}={_cut(meaning)}" maps to an unknown field; nothing was stored.'
                f" The fields are {', '.join(MEANINGS)}."
            )
        if _plain(header) not in names:
            raise WrongInput(
                f'"{_cut(header)}={meaning}" maps a column that the file does not have; nothing was'
                f" stored. Its columns are {_shown(headers)}."
            )


def _columns(
    delimiter: str, headers: Sequence[str], recognised: Sequence[tuple[int, str]]
) -> Columns:
    places: dict[str, int] = {}
    for place, meaning in recognised:
        if meaning in places:
            both = _shown([headers[places[meaning]], headers[place]])
            raise WrongInput(
                f"Two columns mean {meaning}: {both}; nothing was stored. Say which is which,"
                f' for example --map "{_cut(headers[place])}={IGNORE}".'
            )
        places[meaning] = place
    addresses = tuple(
        (field, places[meaning])
        for field, meaning in enumerate(ADDRESS_MEANINGS)
        if meaning in places
    )
    if not addresses:
        raise WrongInput(
            "The file has no column of email addresses; nothing was stored. Its columns are"
            f" {_shown(headers)}. Name the right one, for example"
            f' --map "{_cut(headers[0])}={ADDRESS_MEANINGS[0]}".'
        )
    width = len(headers)
    return Columns(
        delimiter=delimiter,
        width=width,
        given_name=places.get("given_name", width),
        family_name=places.get("family_name", width),
        company=places.get("company", width),
        tags=places.get("tags", width),
        addresses=addresses,
    )


def _shown(headers: Sequence[str]) -> str:
    shown = ", ".join(f'"{_cut(header)}"' for header in headers[:_SHOWN_HEADERS])
    more = len(headers) - _SHOWN_HEADERS
    return f"{shown} and {more} more" if more > 0 else shown


def _cut(header: str) -> str:
    return quoted(header[:_SHOWN_CHARACTERS])[1:-1]
