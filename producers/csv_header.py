"""Read the meanings of a file's columns from its header."""

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
    prefer_contact_ids,
    require_width,
)
from producers.import_rejections import quoted
from schemas.errors import InvalidRequest

_SHOWN_HEADERS = 30
_SHOWN_CHARACTERS = 60
_TEXTS = ("given_name", "family_name", "company", "tags", "external_id")


class Columns(NamedTuple):
    """The column of each meaning; an absent one points just after the row's last cell.

    `addresses` pairs a field (0 to 2, or None for the row's next free field) with its column.
    `statuses` has columns with their meaning and, possibly, field. `ignored` are the headers of
    columns that are not read; `unmapped` are such columns that no mapping says to ignore.
    """

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
    """Return the columns of email addresses; if there are none, those called `Address`."""
    found = [at for at, header in enumerate(headers) if is_address_column(header)]
    return found or [
        at for at, header in enumerate(headers) if is_address_column(header, weak=True)
    ]


def count_known_headers(headers: Iterable[str], mapping: Mapping[str, str]) -> int:
    """Return how many of the headers have a meaning."""
    given = {normalize_header(header) for header in mapping}
    return sum(
        normalize_header(header) in given or column_meaning(header) is not None
        for header in headers
    )


class _Column(NamedTuple):
    at: int
    header: str
    meaning: str | None
    is_mapped: bool


def read_header(headers: Sequence[str], mapping: Mapping[str, str]) -> Columns:
    """Return the columns of an import; `mapping` (header to meaning) overrides known names.

    Raises InvalidRequest for a header without an address column, with two columns of one meaning,
    or with an unknown column that may be about consent. A mapping must name known headers and
    meanings.
    """
    require_width(headers)
    _require_known(mapping, headers)
    given = {normalize_header(name): meaning for name, meaning in mapping.items()}
    columns = _prefer_contact_id(
        [
            _Column(at, header, given.get(name) or column_meaning(header), name in given)
            for at, header in enumerate(headers)
            for name in [normalize_header(header)]
        ]
    )
    texts = _place_columns(columns, _TEXTS, may_repeat=False)
    addresses = _place_address_columns(columns)
    _require_understood(columns)
    places = {name: texts[name].at if name in texts else len(headers) for name in _TEXTS}
    unread = [column for column in columns if column.meaning in {None, IGNORE}]
    return Columns(
        **places,
        addresses=addresses,
        statuses=tuple(_status_columns(columns)),
        ignored=tuple(column.header for column in unread if column.header),
        unmapped=tuple(column.at for column in unread if not column.is_mapped),
    )


def _require_known(mapping: Mapping[str, str], headers: Sequence[str]) -> None:
    names = Counter(map(normalize_header, headers))
    for header, meaning in mapping.items():
        if meaning not in MEANINGS:
            raise InvalidRequest(
                f'"{_shorten_header(header)}={_shorten_header(meaning)}" maps to an unknown field.'
                f" Nothing was stored. The fields are {', '.join(MEANINGS)}."
            )
        if not names[normalize_header(header)]:
            raise InvalidRequest(
                f'"{_shorten_header(header)}={meaning}" maps a column that the file does not have.'
                f" Nothing was stored. Its columns are {_list_headers(headers)}."
            )
        if names[normalize_header(header)] > 1 and meaning not in {IGNORE, ADDRESS}:
            raise InvalidRequest(
                f"The file has two columns named {_list_headers([header])}. Nothing was stored."
                " Rename or remove one of them."
            )


def _prefer_contact_id(columns: Sequence[_Column]) -> list[_Column]:
    ids = [column for column in columns if column.meaning == "external_id"]
    kept = prefer_contact_ids({column.at: column.header for column in ids})
    others = [column.at for column in ids if column.at not in kept and not column.is_mapped]
    return [each._replace(meaning=None) if each.at in others else each for each in columns]


def _place_columns(
    columns: Sequence[_Column], meanings: Sequence[str], *, may_repeat: bool
) -> dict[str, _Column]:
    """Return the column of each meaning; a mapped column overrides a known one.

    Raises InvalidRequest for two mapped columns of one meaning, or two known ones unless known
    ones `may_repeat`.
    """
    places: dict[str, _Column] = {}
    for column in sorted(columns, key=lambda each: not each.is_mapped):
        if column.meaning is None or column.meaning not in meanings:
            continue
        first = places.setdefault(column.meaning, column)
        if first is not column and (column.is_mapped or not (first.is_mapped or may_repeat)):
            both = [first.header, column.header]
            raise InvalidRequest(
                f"Two columns mean {column.meaning}: {_list_headers(both)}. Nothing was stored. Map"
                f' one of them, for example --map "{_shorten_header(both[1])}={IGNORE}".'
            )
    return places


def _place_address_columns(columns: Sequence[_Column]) -> tuple[tuple[int | None, int], ...]:
    """Give each column of addresses its field: the one it names, or the next free one.

    Mapped columns go first. Surplus columns get the fields that a row leaves free.
    """
    found = [each for each in columns if each.meaning in {ADDRESS, *ADDRESS_FIELDS}]
    if not found:
        headers = [column.header for column in columns]
        raise InvalidRequest(
            "The file has no column of email addresses. Nothing was stored. Its columns are"
            f" {_list_headers(headers)}. Remove a title above the header, or map the right column,"
            f' for example --map "{_shorten_header(headers[0])}={ADDRESS_FIELDS[0]}".'
        )
    fields = _place_columns(found, ADDRESS_FIELDS, may_repeat=True)
    named = {column.at: ADDRESS_FIELDS.index(meaning) for meaning, column in fields.items()}
    free = iter(sorted({0, 1, 2} - set(named.values())))
    placed: dict[int, int | None] = {
        column.at: named[column.at] if column.at in named else next(free, None) for column in found
    }
    # Columns without a field come last: the row's free fields are known then.
    in_order = sorted(placed, key=lambda at: (placed[at] is None, placed[at], at))
    return tuple((placed[at], at) for at in in_order)


def _status_columns(columns: Sequence[_Column]) -> Iterable[tuple[int, str, int | None]]:
    for column in columns:
        if column.meaning in STATUS_FIELDS:
            yield column.at, STATUS, STATUS_FIELDS.index(column.meaning)
        elif column.meaning in {STATUS, *BOOLEAN_MEANINGS}:
            yield column.at, str(column.meaning), None


def _require_understood(columns: Sequence[_Column]) -> None:
    unknown = [
        each.header for each in columns if each.meaning is None and mentions_consent(each.header)
    ]
    if unknown:
        raise InvalidRequest(
            f"Unknown columns may be about mail or consent: {_list_headers(unknown)}. Nothing was"
            " stored. Map each of them to a meaning, for example --map"
            f' "{_shorten_header(unknown[0])}={IGNORE}". The meanings are {", ".join(MEANINGS)}.'
        )


def _list_headers(headers: Sequence[str]) -> str:
    shown = ", ".join(f'"{_shorten_header(header)}"' for header in headers[:_SHOWN_HEADERS])
    more = len(headers) - _SHOWN_HEADERS
    return f"{shown} and {more} more" if more > 0 else shown


def _shorten_header(header: str) -> str:
    return quoted(header[:_SHOWN_CHARACTERS])[1:-1]
