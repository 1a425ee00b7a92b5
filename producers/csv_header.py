"""Which column of a file with a header means what."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from producers.column_names import (
    ADDRESS,
    ADDRESS_FIELDS,
    IGNORE,
    MEANINGS,
    STATUS,
    STATUS_FIELDS,
    YES_OR_NO,
    meaning_of,
    names_address,
    plain,
    sounds_of_consent,
)
from producers.import_rejections import quoted
from schemas.errors import WrongInput

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
    found = [at for at, header in enumerate(headers) if names_address(header)]
    return found or [at for at, header in enumerate(headers) if names_address(header, weak=True)]


def recognised(headers: Iterable[str], mapping: Mapping[str, str]) -> int:
    """Return how many of the headers mean something."""
    given = {plain(header) for header in mapping}
    return sum(plain(header) in given or meaning_of(header) is not None for header in headers)


def require_width(headers: Sequence[str]) -> None:
    """Raise WrongInput for more columns than a file may have."""
    if len(headers) > MAX_COLUMNS:
        raise WrongInput(
            f"The file has {len(headers):,} columns, and may have {MAX_COLUMNS:,}. Nothing was"
            " stored. Remove the columns that are not needed."
        )


def read_header(headers: Sequence[str], mapping: Mapping[str, str]) -> Columns:
    """Return the columns of an import; `mapping` (header to meaning) goes before known names.

    Raises WrongInput for a header without an address column, with two columns of one meaning, or
    with one that may tell about mail or consent and is not understood, and for a mapping that
    names an unknown header or meaning.
    """
    require_width(headers)
    _require_known(mapping, headers)
    given = {plain(name): meaning for name, meaning in mapping.items()}
    meanings = [given.get(plain(header)) or meaning_of(header) for header in headers]
    _prefer_contact_id(headers, meanings, given)
    places = _single(headers, meanings, given)
    addresses = _addresses(headers, meanings, given)
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
        statuses=tuple(_statuses(meanings)),
        ignored=tuple(
            header
            for header, meaning in zip(headers, meanings, strict=True)
            if header and meaning in {None, IGNORE}
        ),
        unmapped=tuple(
            at
            for at, (header, meaning) in enumerate(zip(headers, meanings, strict=True))
            if meaning in {None, IGNORE} and plain(header) not in given
        ),
    )


def _require_known(mapping: Mapping[str, str], headers: Sequence[str]) -> None:
    names = Counter(map(plain, headers))
    for header, meaning in mapping.items():
        if meaning not in MEANINGS:
            raise WrongInput(
                f'"{_cut(header)}={_cut(meaning)}" maps to an unknown field. Nothing was stored.'
                f" The fields are {', '.join(MEANINGS)}."
            )
        if not names[plain(header)]:
            raise WrongInput(
                f'"{_cut(header)}={meaning}" maps a column that the file does not have. Nothing was'
                f" stored. Its columns are {_shown(headers)}."
            )
        if names[plain(header)] > 1 and meaning not in {IGNORE, ADDRESS}:
            raise WrongInput(
                f"The file has two columns of one name, {_shown([header])}. Nothing was stored."
                " Rename or remove one of them."
            )


def _prefer_contact_id(
    headers: Sequence[str], meanings: list[str | None], given: Mapping[str, str]
) -> None:
    """Leave out an `Id` beside a `Contact Id`: it is that of something else."""
    ids = [at for at, meaning in enumerate(meanings) if meaning == "external_id"]
    if len(ids) > 1 and any("contact" in plain(headers[at]) for at in ids):
        for at in ids:
            if "contact" not in plain(headers[at]) and plain(headers[at]) not in given:
                meanings[at] = None


def _single(
    headers: Sequence[str], meanings: Sequence[str | None], given: Mapping[str, str]
) -> dict[str, int]:
    """Return where names, tags and ids are; one that was mapped goes before one that is known."""
    places: dict[str, int] = {}
    mapped = [plain(header) in given for header in headers]
    for place in sorted(range(len(headers)), key=lambda at: not mapped[at]):
        meaning = meanings[place]
        if meaning is None or meaning not in _TEXTS:
            continue
        if meaning not in places:
            places[meaning] = place
        elif mapped[place] or not mapped[places[meaning]]:
            raise _two(headers, meaning, sorted([places[meaning], place]))
    return places


def _two(headers: Sequence[str], meaning: str, places: Sequence[int]) -> WrongInput:
    both = [headers[place] for place in places]
    return WrongInput(
        f"Two columns mean {meaning}: {_shown(both)}. Nothing was stored. Say which is which,"
        f' for example --map "{_cut(both[1])}={IGNORE}".'
    )


def _addresses(
    headers: Sequence[str], meanings: Sequence[str | None], given: Mapping[str, str]
) -> tuple[tuple[int | None, int], ...]:
    """Give each column of addresses its field: the one it names, or the next that is free.

    What the mapping names goes first. Columns that are left over fill what a row leaves free.
    """
    columns = [
        at for at, meaning in enumerate(meanings) if meaning == ADDRESS or meaning in ADDRESS_FIELDS
    ]
    if not columns:
        raise WrongInput(
            "The file has no column of email addresses. Nothing was stored. Its columns are"
            f" {_shown(headers)}. Remove a title above the header, or name the right column, for"
            f' example --map "{_cut(headers[0])}={ADDRESS_FIELDS[0]}".'
        )
    fields: dict[str, int] = {}
    for only_mapped in (True, False):
        for column in columns:
            meaning = meanings[column] or ADDRESS
            if meaning == ADDRESS or (plain(headers[column]) in given) is not only_mapped:
                continue
            if only_mapped and meaning in fields:
                raise _two(headers, meaning, [fields[meaning], column])
            fields.setdefault(meaning, column)
    named = {column: ADDRESS_FIELDS.index(meaning) for meaning, column in fields.items()}
    free = iter(sorted({0, 1, 2} - set(named.values())))
    placed: dict[int, int | None] = {
        column: named[column] if column in named else next(free, None) for column in columns
    }
    # Those without a field come last, when it is known which fields the row leaves free.
    in_order = sorted(placed, key=lambda column: (placed[column] is None, placed[column], column))
    return tuple((placed[column], column) for column in in_order)


def _statuses(meanings: Sequence[str | None]) -> Iterable[tuple[int, str, int | None]]:
    for column, meaning in enumerate(meanings):
        if meaning in STATUS_FIELDS:
            yield column, STATUS, STATUS_FIELDS.index(meaning)
        elif meaning is not None and (meaning == STATUS or meaning in YES_OR_NO):
            yield column, meaning, None


def _require_understood(headers: Sequence[str], meanings: Sequence[str | None]) -> None:
    unknown = [
        header
        for header, meaning in zip(headers, meanings, strict=True)
        if meaning is None and sounds_of_consent(header)
    ]
    if unknown:
        raise WrongInput(
            f"The file may tell about mail or consent in {_shown(unknown)}, which is not"
            " understood. Nothing was stored. Say what each such column means, for example --map"
            f' "{_cut(unknown[0])}={IGNORE}". The meanings are {", ".join(MEANINGS)}.'
        )


def _shown(headers: Sequence[str]) -> str:
    shown = ", ".join(f'"{_cut(header)}"' for header in headers[:_SHOWN_HEADERS])
    more = len(headers) - _SHOWN_HEADERS
    return f"{shown} and {more} more" if more > 0 else shown


def _cut(header: str) -> str:
    return quoted(header[:_SHOWN_CHARACTERS])[1:-1]
