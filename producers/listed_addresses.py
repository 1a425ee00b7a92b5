"""Lists of addresses as people have them: exports of suppressions, of any number, read in blocks.

A line has an address; or cells, of which one is the address, under a header that names it; or a
JSON object with the address as `address` or `email`, or only that as a JSON text.
"""

import csv
import json
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from producers.import_refusals import invalid_address
from schemas.addresses import Identity, InvalidAddress, identify
from schemas.errors import WrongInput
from schemas.staging import Refusal

LINES_AT_ONCE = 5_000
_LONGEST_LINE = 64 * 1024
_COLUMNS = ("email", "address", "e-mail", "email address", "email_address")
_NAMES = ("address", "email")
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
    column, delimiter, begun = 0, ",", False
    for line_no, text in _lines(file):
        if line_no % LINES_AT_ONCE == 0:
            yield block
            block = Block([], [])
        if not text:
            continue
        first, begun = not begun, True
        if first and "@" not in text and not text.startswith("{"):
            column, delimiter = _header(text)
            continue
        cell = text if text.startswith("{") else _cell(text, column, delimiter)
        try:
            _require_text(text)
            block.rows.append((line_no, identify(_address(cell))))
        except InvalidAddress as error:
            block.refusals.append(invalid_address(line_no, cell, error))
    yield block


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


def _header(text: str) -> tuple[int, str]:
    """The column of the addresses, and what stands between columns."""
    delimiter = max(_DELIMITERS, key=text.count)
    names = [name.strip().strip('"').lower() for name in text.split(delimiter)]
    for name in _COLUMNS:
        if name in names:
            return names.index(name), delimiter
    raise WrongInput(
        "The first line of the addresses has none, and names no column of them; nothing was"
        f" stored. Call the column {' or '.join(f'`{name}`' for name in _COLUMNS[:2])}, or give one"
        " address a line."
    )


def _cell(text: str, column: int, delimiter: str) -> str:
    if delimiter not in text and '"' not in text:
        return text if column == 0 else ""
    try:
        cells = next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return text
    return cells[column] if column < len(cells) else ""


def _require_text(line: str) -> None:
    """Raise InvalidAddress for a line that is not text in UTF-8."""
    if not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
        raise InvalidAddress("the line is not text in UTF-8.")


def _address(cell: str) -> str:
    """What the cell says is the address; raises InvalidAddress for an object that names none."""
    if not cell.startswith("{"):
        return cell
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        raise InvalidAddress("it begins as a JSON object, and is none.") from None
    for name in _NAMES:
        if isinstance(found.get(name), str):
            address: str = found[name]
            return address
    raise InvalidAddress("the object has no text as `address`, or as `email`.")
