"""Lists of addresses as people have them: exports of suppressions, of any number, read in blocks.

A line has an address, or several; or cells under a header, of which those whose column is called
`email`, `address` or alike are addresses, such as `Email Address 2`; or a JSON object with
addresses by such names; or an address as a JSON text. Every address of a line counts: a list of
opt-outs of which one is passed over in silence is worse than none.
"""

import csv
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from producers.import_refusals import invalid_address
from schemas.addresses import Identity, InvalidAddress, identify
from schemas.errors import WrongInput
from schemas.staging import Refusal

LINES_AT_ONCE = 5_000
_LONGEST_LINE = 64 * 1024
_is_name = re.compile(
    r"(e-?mail|address|e-?mail[ _-]?address)[ _-]?[0-9]?", re.IGNORECASE
).fullmatch
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DELIMITERS = ",;\t"


class Block(NamedTuple):
    """Some lines of a list: addresses by their lines, and lines with something else in them."""

    rows: list[tuple[int, Identity]]
    refusals: list[Refusal]


def blocks_of_addresses(file: BinaryIO) -> Iterator[Block]:
    """The addresses in the file, in its order, a few thousand lines at a time; blank lines are
    passed over.

    Raises WrongInput for a header that names no column of addresses, and a line longer than any
    with an address would be.
    """
    block = Block([], [])
    columns: _Columns | None = None
    begun = False
    for line_no, text in _lines(file):
        if line_no % LINES_AT_ONCE == 0:
            yield block
            block = Block([], [])
        if not text:
            continue
        first, begun = not begun, True
        if first and "@" not in text and not text.startswith("{"):
            columns = _header(text)
            continue
        _read(line_no, text, columns, block)
    yield block


class _Columns(NamedTuple):
    """Which cells of a line are addresses, and what stands between cells."""

    places: list[int]
    delimiter: str


def _read(line_no: int, text: str, columns: _Columns | None, block: Block) -> None:
    """Add what the line has to the block: its addresses, and a refusal for each that is none, or
    for a line without any.
    """
    try:
        _require_text(text)
        cells = _addresses_of(text, columns)
    except InvalidAddress as error:
        block.refusals.append(invalid_address(line_no, text, error))
        return
    for cell in cells:
        try:
            block.rows.append((line_no, identify(cell)))
        except InvalidAddress as error:
            block.refusals.append(invalid_address(line_no, cell, error))


def _lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    line_no = 0
    while line := file.readline(_LONGEST_LINE):
        line_no += 1
        if len(line) == _LONGEST_LINE:
            raise WrongInput(
                f"Line {line_no} of the addresses is longer than any with an address would be."
                " Nothing was stored. Give one address a line."
            )
        if line_no == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        yield line_no, line.decode(errors="surrogateescape").strip()


def _header(text: str) -> _Columns:
    """The columns of addresses; raises WrongInput where the header names none."""
    delimiter = max(_DELIMITERS, key=text.count)
    names = [name.strip().strip('"').strip() for name in text.split(delimiter)]
    places = [place for place, name in enumerate(names) if _is_name(name)]
    if places:
        return _Columns(places, delimiter)
    raise WrongInput(
        "The first line of the addresses has none, and names no column of them; nothing was"
        " stored. Call the column `email` or `address`, or give one address a line."
    )


def _addresses_of(text: str, columns: _Columns | None) -> list[str]:
    """The cells of the line that are to be addresses; raises InvalidAddress where none is."""
    if text.startswith("{"):
        return _named(text)
    if columns is None:
        delimiter = max(_DELIMITERS, key=text.count)
        cells = _cells(text, delimiter)
        # What else stands in the line of a list without a header, such as a day, is no address.
        found = [cell for cell in cells if "@" in cell] if len(cells) > 1 else cells
    else:
        cells = _cells(text, columns.delimiter)
        found = [cells[place] for place in columns.places if place < len(cells)]
    found = [cell for cell in found if cell.strip()]
    if not found:
        raise InvalidAddress("the line has no address.")
    return found


def _cells(text: str, delimiter: str) -> list[str]:
    if delimiter not in text and '"' not in text:
        return [text]
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return [text]


def _named(text: str) -> list[str]:
    """The addresses of a JSON object; raises InvalidAddress where it names none."""
    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidAddress("it begins as a JSON object, and is none.") from None
    addresses = [
        value
        for name, value in found.items()
        if _is_name(name) and isinstance(value, str) and value.strip()
    ]
    if not addresses:
        raise InvalidAddress("the object has no text as `address`, or as `email`.")
    return addresses


def _require_text(line: str) -> None:
    """Raise InvalidAddress for a line that is not text in UTF-8."""
    if not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
        raise InvalidAddress("the line is not text in UTF-8.")
