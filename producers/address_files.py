"""Read lists of addresses of any length, such as exports of suppressions, in blocks.

The same code and the same columns as in an import find the addresses. Without a header, a line has
one address among other texts, or several and nothing else; or each line is a JSON object. Every
address of a row counts: an opt-out must not be lost silently.
"""

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from producers.column_names import is_address_column
from producers.csv_header import address_columns
from producers.file_text import FileText, find_unreadable, read_json_line
from producers.formula_guard import strip_formula_guard
from producers.import_rejections import reject
from producers.table import Table
from schemas.addresses import (
    Correction,
    InvalidAddress,
    NormalizedAddress,
    find_correction,
    normalize_plain_address,
    parse_address,
)
from schemas.errors import InvalidRequest
from schemas.staging import ImportRejection
from schemas.staging import ImportRejectionReason as Reason

BATCH_SIZE = 5_000
"""Lines of JSON in a block."""

_WHOSE = (
    "the row has several addresses among other texts, and no header says whose they are. Name the"
    " columns in the first line, for example `email,name,owner email`."
)

_split_several = re.compile(r"[,;|\s]+").split


class DoubtfulAddress(NamedTuple):
    """An address that may be a misspelling.

    It is accepted as written if the account knows it. It is also accepted if the correction is not
    certain and the account does not know the intended address.
    """

    line: int
    normalized: NormalizedAddress
    correction: Correction


class Block(NamedTuple):
    """Some rows of a list: addresses with their lines, doubtful ones, and rejections."""

    rows: list[tuple[int, NormalizedAddress]]
    doubtful: list[DoubtfulAddress]
    rejections: list[ImportRejection]


def read_addresses(file: BinaryIO, encoding: str = "utf-8") -> Iterator[Block]:
    """Yield the addresses in the order of the file, a few thousand rows at a time.

    Raises InvalidRequest for a file that is not text, or has no column of addresses.
    """
    table = Table(FileText(file, encoding))
    if table.first_line.lstrip().startswith("{"):
        yield from _read_objects(table)
    elif table.first_line:
        yield from _read_cells(table, _set_dialect(table))


def _read_cells(table: Table, columns: Sequence[int] | None) -> Iterator[Block]:
    for found in table.blocks():
        block = Block([], [], [])
        rows = block.rows
        for row in found:
            if isinstance(row, ImportRejection):
                block.rejections.append(row)
                continue
            line, cells = row
            if columns is not None:
                listed = [cells[column] for column in columns]
            else:
                listed = _addresses_without_header(cells)
            for cell in listed:
                if normalized := normalize_plain_address(cell):
                    rows.append((line, normalized))
                elif cell and not cell.isspace():
                    _read(line, strip_formula_guard(cell), block, several=columns is None)
            if not any(map(str.strip, listed)) and not table.is_blank(cells):
                mixed = columns is None and "@" in "".join(cells)
                why = _WHOSE if mixed else "the row has no address."
                joined = ", ".join(cells)
                block.rejections.append(reject(line, Reason.INVALID_ADDRESS, cell=joined, why=why))
        yield block


def _addresses_without_header(cells: list[str]) -> list[str]:
    """Return the cells with addresses; none if it is unclear whose they are.

    Other texts, such as a date, are ignored.
    """
    if len(cells) == 1:
        return cells
    listed = [cell for cell in cells if "@" in cell]
    if len(listed) > 1 and any("@" not in cell and cell.strip() for cell in cells):
        return []
    return listed


def _read(line: int, cell: str, block: Block, *, several: bool) -> None:
    """Add the address in the cell to the block, or `several` addresses if it may have them."""
    try:
        if find_unreadable(cell):
            raise InvalidAddress("it has bytes that are not text in the encoding of the file.")
        normalized = parse_address(cell)
    except InvalidAddress as error:
        parts = _plain_parts(cell) if several else []
        block.rows.extend((line, part) for part in parts)
        if not parts:
            block.rejections.append(reject(line, Reason.INVALID_ADDRESS, cell=cell, why=error))
        return
    if correction := find_correction(normalized):
        block.doubtful.append(DoubtfulAddress(line, normalized, correction))
    else:
        block.rows.append((line, normalized))


def _plain_parts(cell: str) -> list[NormalizedAddress]:
    """Return the addresses of a line with a different delimiter; none if it has anything else."""
    found: list[NormalizedAddress] = []
    for part in filter(None, _split_several(cell)):
        if (normalized := normalize_plain_address(part)) is None:
            return []
        found.append(normalized)
    return found


def _set_dialect(table: Table) -> list[int] | None:
    """Set how the file is cut, and return the columns of addresses; None without a header."""

    def find_columns(cells: list[str]) -> list[int]:
        return [] if _addresses_in(cells) else address_columns(cells)

    if columns := table.find_header(find_columns):
        return columns
    if "@" not in table.first_line:
        raise InvalidRequest(
            "The first line of the file has no address, and names no column of addresses. Nothing"
            " was stored. Remove a title above the header, name a column `email` or `address`, or"
            " give one address per line."
        )
    table.guess_dialect(_addresses_in)
    return None


def _addresses_in(cells: Sequence[str]) -> int:
    return sum("@" in cell and _is_address(cell) for cell in cells)


def _is_address(cell: str) -> bool:
    try:
        return find_correction(parse_address(strip_formula_guard(cell))) is None
    except InvalidAddress:
        return False


def _read_objects(table: Table) -> Iterator[Block]:
    block = Block([], [], [])
    for count, (line, text) in enumerate(table.plain_lines(), start=1):
        try:
            cells = _named_addresses(text)
        except InvalidAddress as error:
            block.rejections.append(reject(line, Reason.INVALID_ADDRESS, cell=text, why=error))
        else:
            for cell in cells:
                _read(line, cell, block, several=False)
        if count % BATCH_SIZE == 0:
            yield block
            block = Block([], [], [])
    yield block


def _named_addresses(text: str) -> list[str]:
    try:
        found = read_json_line(text)
    except ValueError as error:
        raise InvalidAddress(str(error)) from None
    if isinstance(found, str):
        return [found]
    if not isinstance(found, dict):
        raise InvalidAddress("it is not a JSON object.")
    texts = [
        (name, text)
        for name, value in found.items()
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str) and text.strip()
    ]
    sure = {text for name, text in texts if is_address_column(name)}
    # An `address` next to an `email` may be a postal one.
    others = [text for name, text in texts if is_address_column(name, weak=True)]
    addresses = [text for text in others if not sure or text in sure or _is_address(text)]
    if not addresses:
        raise InvalidAddress("the object has no text as `address` or `email`.")
    return addresses
