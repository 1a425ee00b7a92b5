"""Read lists of contact ids of any length, in blocks.

A line has one or more ids, or a JSON object with the id as `contact_id` or `id`; or the ids are in
a column of that name. A block of plain numbers, the usual case, is converted as a whole.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from producers.column_names import column_meaning, prefer_contact_ids
from producers.file_text import FileText, find_unreadable, read_json_line
from producers.invalid_request import shorten
from producers.table import Table, broken_header_error
from schemas.errors import InvalidRequest
from schemas.requests import MAX_ID
from schemas.staging import ImportRejection

_LONGEST_LINE = 1 << 20
"""In characters, between two commas or line breaks."""

_ONE_NUMBER = 100
"""In characters; a longer line cannot be one number with thousands separators."""

_is_number = re.compile(r"-?[0-9]{1,20}").fullmatch
# Possessive: backtracking would take 80 bytes of memory per number.
_are_plain_numbers = re.compile(r"(?:[0-9]{1,18}(?:\r?\n|\r|,))*+").fullmatch
_one_number = re.compile(
    r"^[^\S\r\n]*([0-9]{1,3}(?:,[0-9]{3})+),*[^\S\r\n]*(?=[\r\n]|\Z)", re.MULTILINE
).search
_first_line = re.compile(r"\A(\s*)\S[^\r\n]*")
_begins_plain = re.compile(r"\s*(?:[{,]|-?[0-9]+\s*(?:,[\s0-9,-]*)?(?:[\r\n]|$))").match


def read_contact_ids(file: BinaryIO, encoding: str = "utf-8") -> Iterator[list[int]]:
    """Yield the ids in the order of the file, some ten thousand at a time, in bounded memory.

    Raises InvalidRequest, which names the first line that the module does not describe.
    """
    source = FileText(file, encoding)
    beginning = source.beginning().lstrip()
    first = beginning.split("\n", 1)[0].split("\r", 1)[0]
    if _begins_plain(beginning):
        return _read_lines(source)
    if _is_name(first.strip().removeprefix('"').removesuffix('"')):
        return _read_lines(source, header=True)
    return _read_table(Table(source))


def parse_contact_id(text: str, line_no: int) -> int:
    """Return the id of a text in this line; raises InvalidRequest.

    Only plain digits are an id, in a file, on the command line and over HTTP: `"1,234"`, `42.0` and
    `1e3` may be read as another number than was meant.
    """
    if not _is_number(text):
        raise _line_error(line_no, f"{shorten(text)!r} is not a contact id.")
    number = int(text)
    if not -MAX_ID - 1 <= number <= MAX_ID:
        raise _line_error(line_no, f"{text} is outside the range of contact ids.")
    return number


def _is_name(header: str) -> bool:
    return column_meaning(header) == "external_id"


def _read_lines(source: FileText, *, header: bool = False) -> Iterator[list[int]]:
    for line_no, part in _parts(source):
        text = part
        if header:
            text, header = _first_line.sub(r"\1", part), part.isspace()
        if "," in text and (found := _one_number(text)):
            raise _line_error(
                line_no + _breaks(text[: found.start(1)]),
                f"{found[1]} may be one number or several ids.",
            )
        if _are_plain_numbers(text):
            yield list(map(int, text.replace(",", "\n").split()))
        else:
            yield list(_ids(text, line_no))


def _parts(source: FileText) -> Iterator[tuple[int, str]]:
    """Yield pieces of the text, each with the number of its first line.

    A piece ends with a line, or at a comma of a very long line.
    """
    rest = ""
    line_no = 1
    while read := source.read():
        rest += read
        # A CR at the end may be half of a CRLF.
        end = max(rest.rfind("\n"), rest.rfind("\r", 0, len(rest) - 1)) + 1
        if not end and len(rest) > _ONE_NUMBER and not {"{", '"'} & set(rest):
            end = rest.rfind(",") + 1
        if not end and len(rest) > _LONGEST_LINE:
            raise _line_error(line_no, "it is longer than a line with an id.")
        if end:
            yield line_no, rest[:end]
            line_no += _breaks(rest[:end])
            rest = rest[end:]
    if rest:
        yield line_no, rest + "\n"


def _breaks(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _ids(part: str, first_line: int) -> Iterator[int]:
    for line_no, line in enumerate(io.StringIO(part, newline=""), start=first_line):
        if line.lstrip().startswith("{"):
            yield _id_of_object(line, line_no)
            continue
        try:
            cells = next(csv.reader([line], strict=True, skipinitialspace=True), [])
        except csv.Error:
            raise _line_error(line_no, "a quotation mark is not closed.") from None
        for cell in cells:
            if text := cell.strip():
                yield parse_contact_id(text, line_no)


def _id_of_object(text: str, line_no: int) -> int:
    try:
        found = read_json_line(text)
    except ValueError as error:
        raise _line_error(line_no, str(error)) from None
    named = [value for name, value in found.items() if _is_name(name)]
    if len(named) != 1 or type(named[0]) is not int:
        raise _line_error(line_no, "the object has no whole number as `contact_id` or `id`.")
    return parse_contact_id(str(named[0]), line_no)


def _read_table(table: Table) -> Iterator[list[int]]:
    """Yield the ids of one column, or of rows with another delimiter than a comma."""
    if not table.first_line:
        return
    columns = table.find_header(_id_columns)
    if columns is None:
        if not table.first_rows():
            raise broken_header_error()
        table.guess_dialect(lambda cells: sum(bool(_is_number(cell.strip())) for cell in cells))
    for found in table.blocks():
        block: list[int] = []
        for row in found:
            if isinstance(row, ImportRejection):
                raise _line_error(row.line, row.detail)
            line_no, cells = row
            if table.is_blank(cells):
                continue
            for cell in filter(str.strip, cells) if columns is None else [cells[columns[0]]]:
                if find_unreadable(cell):
                    raise _line_error(line_no, "it is not text in the file's encoding.")
                block.append(parse_contact_id(cell.strip(), line_no))
        yield block


def _id_columns(headers: list[str]) -> list[int]:
    """Return the column of ids, if there is one; raises InvalidRequest for several."""
    found = {at: name for at, name in enumerate(headers) if _is_name(name)}
    columns = prefer_contact_ids(found)
    if len(columns) > 1:
        names = ", ".join(found.values())
        raise InvalidRequest(
            f"The file has more than one column of ids: {names[:200]}. Nothing was stored. Remove"
            " the columns that are not the contacts' ids."
        )
    return columns


def _line_error(line_no: int, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"Line {line_no} of the contacts: {what} Nothing was stored. Give whole numbers in plain"
        " digits, one per line or in a column `contact_id`."
    )
