"""Which column of a file with a header means what."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from producers.column_names import (
    ADDRESS,
    ADDRESS_FIELDS,
    BOOLEAN_MEANINGS,
    IGNORE,
    MEANINGS,
    STATUS,
    STATUS_FIELDS,
    column_meaning,
    is_address_column,
    mentions_consent,
    normalize_header,
)
from producers.import_rejections import quoted
from schemas.errors import InvalidRequest

MAX_COLUMNS = 2_000
"""Columns that a file may have."""

_SHOWN_HEADERS = 30
_SHOWN_CHARACTERS = 60
_TEXTS = ("given_name", "family_name", "company", "tags", "external_id")


class Columns(NamedTuple):
    """Where each meaning is found in a row; an absent one points just behind the row's last cell.

    `addresses` pairs a field's place (0 to 2) with its column; None is the next field of the row
    that is free. `statuses` has for a column its meaning and, where it has one, its field's place.
    `unmapped` are those of the columns which are not read that no mapping says to ignore.
    """

    width: int
    given_name: int
    family_name: int
    company: int
    tags: int
    external_id: int
    addresses: tuple[tuple[int | None, int], ...]
    statuses: tuple[tuple[int, str, int | None], ...]
    ignored: tuple[str, ...]
    unmapped: tuple[int, ...]


def address_columns(headers: Sequence[str]) -> list[int]:
    """Return the places of the columns that are email addresses; where there are none, of those
    called `Address`.
    """
    found = [at for at, header in enumerate(headers) if is_address_column(header)]
    return found or [
        at for at, header in enumerate(headers) if is_address_column(header, weak=True)
    ]


def count_known_headers(headers: Iterable[str], mapping: Mapping[str, str]) -> int:
    """Return how many of the headers mean something."""
    given = {normalize_header(header) for header in mapping}
    return sum(
        normalize_header(header) in given or column_meaning(header) is not None
        for header in headers
    )


def require_width(headers: Sequence[str]) -> None:
    """Raise InvalidRequest for more columns than a file may have."""
    if len(headers) > MAX_COLUMNS:
        raise InvalidRequest(
            f"The file has {len(headers):,} columns, and may have {MAX_COLUMNS:,}. Nothing was"
            " stored. Remove the columns that are not needed."
        )


def read_header(headers: Sequence[str], mapping: Mapping[str, str]) -> Columns:
    """Return the columns of an import; `mapping` (header to meaning) goes before known names.

    Raises InvalidRequest for a header without an address column, with two columns of one meaning,
    or with one that may tell about mail or consent and is not understood, and for a mapping that
    names an unknown header or meaning.
    """
    require_width(headers)
    _require_known(mapping, headers)
    given = {normalize_header(name): meaning for name, meaning in mapping.items()}
    meanings = [given.get(normalize_header(header)) or column_meaning(header) for header in headers]
    _prefer_contact_id(headers, meanings, given)
    places = _place_single_columns(headers, meanings, given)
    addresses = _place_address_columns(headers, meanings, given)
    _require_understood(headers, meanings)
    width = len(headers)
    given_name, family_name, company, tags, external_id = (
        places.get(name, width) for name in _TEXTS
    )
    return Columns(
        width=width,
        given_name=given_name,
        family_name=family_name,
        company=company,
        tags=tags,
        external_id=external_id,
        addresses=addresses,
        statuses=tuple(_status_columns(meanings)),
        ignored=tuple(
            header
            for header, meaning in zip(headers, meanings, strict=True)
            if header and meaning in {None, IGNORE}
        ),
        unmapped=tuple(
            at
            for at, (header, meaning) in enumerate(zip(headers, meanings, strict=True))
            if meaning in {None, IGNORE} and normalize_header(header) not in given
        ),
    )


def _require_known(mapping: Mapping[str, str], headers: Sequence[str]) -> None:
    names = Counter(map(normalize_header, headers))
    for header, meaning in mapping.items():
        if meaning not in MEANINGS:
            raise InvalidRequest(
                f'"{_shorten_header(header)}={_shorten_header(meaning)}" maps to an unknown field.'
                " Nothing was stored."
                f" The fields are {', '.join(MEANINGS)}."
            )
        if not names[normalize_header(header)]:
            raise InvalidRequest(
                f'"{_shorten_header(header)}={meaning}" maps a column that the file does not have.'
                f" Nothing was stored. Its columns are {_list_headers(headers)}."
            )
        if names[normalize_header(header)] > 1 and meaning not in {IGNORE, ADDRESS}:
            raise InvalidRequest(
                f"The file has two columns of one name, {_list_headers([header])}. Nothing was"
                " stored."
                " Rename or remove one of them."
            )


def _prefer_contact_id(
    headers: Sequence[str], meanings: list[str | None], given: Mapping[str, str]
) -> None:
    """Leave out an `Id` beside a `Contact Id`: it is that of something else."""
    ids = [at for at, meaning in enumerate(meanings) if meaning == "external_id"]
    if len(ids) > 1 and any("contact" in normalize_header(headers[at]) for at in ids):
        for at in ids:
            if (
                "contact" not in normalize_header(headers[at])
                and normalize_header(headers[at]) not in given
            ):
                meanings[at] = None


def _place_single_columns(
    headers: Sequence[str], meanings: Sequence[str | None], given: Mapping[str, str]
) -> dict[str, int]:
    """Return where names, tags and ids are; one that was mapped goes before one that is known."""
    places: dict[str, int] = {}
    mapped = [normalize_header(header) in given for header in headers]
    for place in sorted(range(len(headers)), key=lambda at: not mapped[at]):
        meaning = meanings[place]
        if meaning is None or meaning not in _TEXTS:
            continue
        if meaning not in places:
            places[meaning] = place
        elif mapped[place] or not mapped[places[meaning]]:
            raise _duplicate_meaning_error(headers, meaning, sorted([places[meaning], place]))
    return places


def _duplicate_meaning_error(
    headers: Sequence[str], meaning: str, places: Sequence[int]
) -> InvalidRequest:
    both = [headers[place] for place in places]
    return InvalidRequest(
        f"Two columns mean {meaning}: {_list_headers(both)}. Nothing was stored. Say which is"
        " which,"
        f' for example --map "{_shorten_header(both[1])}={IGNORE}".'
    )


def _place_address_columns(
    headers: Sequence[str], meanings: Sequence[str | None], given: Mapping[str, str]
) -> tuple[tuple[int | None, int], ...]:
    """Give each column of addresses its field: the one it names, or the next that is free.

    What the mapping names goes first. Columns that are left over fill what a row leaves free.
    """
    columns = [
        at for at, meaning in enumerate(meanings) if meaning == ADDRESS or meaning in ADDRESS_FIELDS
    ]
    if not columns:
        raise InvalidRequest(
            "The file has no column of email addresses. Nothing was stored. Its columns are"
            f" {_list_headers(headers)}. Remove a title above the header, or name the right"
            " column, for"
            f' example --map "{_shorten_header(headers[0])}={ADDRESS_FIELDS[0]}".'
        )
    fields: dict[str, int] = {}
    for only_mapped in (True, False):
        for column in columns:
            meaning = meanings[column] or ADDRESS
            if (
                meaning == ADDRESS
                or (normalize_header(headers[column]) in given) is not only_mapped
            ):
                continue
            if only_mapped and meaning in fields:
                raise _duplicate_meaning_error(headers, meaning, [fields[meaning], column])
            fields.setdefault(meaning, column)
    named = {column: ADDRESS_FIELDS.index(meaning) for meaning, column in fields.items()}
    free = iter(sorted({0, 1, 2} - set(named.values())))
    placed: dict[int, int | None] = {
        column: named[column] if column in named else next(free, None) for column in columns
    }
    # Those without a field come last, when it is known which fields the row leaves free.
    in_order = sorted(placed, key=lambda column: (placed[column] is None, placed[column], column))
    return tuple((placed[column], column) for column in in_order)


def _status_columns(meanings: Sequence[str | None]) -> Iterable[tuple[int, str, int | None]]:
    for column, meaning in enumerate(meanings):
        if meaning in STATUS_FIELDS:
            yield column, STATUS, STATUS_FIELDS.index(meaning)
        elif meaning is not None and (meaning == STATUS or meaning in BOOLEAN_MEANINGS):
            yield column, meaning, None


def _require_understood(headers: Sequence[str], meanings: Sequence[str | None]) -> None:
    unknown = [
        header
        for header, meaning in zip(headers, meanings, strict=True)
        if meaning is None and mentions_consent(header)
    ]
    if unknown:
        raise InvalidRequest(
            f"The file may tell about mail or consent in {_list_headers(unknown)}, which is not"
            " understood. Nothing was stored. Say what each such column means, for example --map"
            f' "{_shorten_header(unknown[0])}={IGNORE}". The meanings are {", ".join(MEANINGS)}.'
        )


def _list_headers(headers: Sequence[str]) -> str:
    shown = ", ".join(f'"{_shorten_header(header)}"' for header in headers[:_SHOWN_HEADERS])
    more = len(headers) - _SHOWN_HEADERS
    return f"{shown} and {more} more" if more > 0 else shown


def _shorten_header(header: str) -> str:
    return quoted(header[:_SHOWN_CHARACTERS])[1:-1]
