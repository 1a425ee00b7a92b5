"""Lists of contact ids as people send them, of any size, read in blocks.

A line has an id, several ids, or a JSON object with the id as `contact_id` or `id`; or a column of
that name has them. Plain numbers, which nearly all lists are, are not checked one by one.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from producers.column_names import column_meaning
from producers.csv_header import require_width
from producers.file_text import FileText, find_unreadable
from producers.invalid_request import shorten
from producers.table import Table, broken_header_error
from schemas.errors import InvalidRequest
from schemas.json_input import DuplicateName, read_json
from schemas.requests import MAX_ID
from schemas.staging import ImportRejection

_LONGEST_LINE = 1 << 20
"""In characters; of a line with commas each part is one."""

_ONE_NUMBER = 100
"""In characters; a longer line is no number with commas in it."""

_is_number = re.compile(r"-?[0-9]{1,20}").fullmatch
# Possessive: to go back would take 80 bytes of memory for each number.
_are_plain_numbers = re.compile(r"(?:[0-9]{1,18}(?:\r?\n|\r|,))*+").fullmatch
_one_number = re.compile(
    r"^[^\S\r\n]*([0-9]{1,3}(?:,[0-9]{3})+),*[^\S\r\n]*(?=[\r\n]|\Z)", re.MULTILINE
).search
_begins_plain = re.compile(r"\s*(?:[{,]|-?[0-9]+\s*(?:,[\s0-9,-]*)?(?:[\r\n]|$))").match


def read_contact_ids(file: BinaryIO, encoding: str = "utf-8") -> Iterator[list[int]]:
    """Yield the ids in the file, in its order, in blocks of some ten thousand.

    Memory is bounded by one block. Raises InvalidRequest, which names the first line that is in
    none of the formats above.
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
    """Parse the id that `text` states on this line; raises InvalidRequest.

    Only plain digits are an id, in a file, on the command line and over HTTP: `"1,234"`, `42.0` and
    `1e3` could mean another number.
    """
    if not _is_number(text):
        raise _line_error(line_no, f"{shorten(text)!r} is not a contact id.")
    number = int(text)
    if not -MAX_ID - 1 <= number <= MAX_ID:
        raise _line_error(line_no, f"{text} is too large for a contact id.")
    return number


def _is_name(header: str) -> bool:
    return column_meaning(header) == "external_id"


def _read_lines(source: FileText, *, header: bool = False) -> Iterator[list[int]]:
    line_no = 1
    for part in _parts(source):
        text = part
        if header and not part.isspace():
            blank = len(part) - len(part.lstrip())
            name = re.compile("[^\r\n]*").match(part, blank)
            text = part[:blank] + part[name.end() :] if name else part
            header = False
        if "," in text and (found := _one_number(text)):
            raise _line_error(
                line_no + _breaks(text[: found.start(1)]),
                f"{found[1]} may be one number or several ids.",
            )
        if _are_plain_numbers(text):
            yield list(map(int, text.replace(",", "\n").split()))
        else:
            yield list(_ids(text, line_no))
        line_no += _breaks(part)


def _parts(source: FileText) -> Iterator[str]:
    """Yield the text in pieces that end at a line's end, or at a comma if a line is very long."""
    rest = ""
    line_no = 1
    while read := source.read():
        rest += read
        # A CR at the end may be half of a CRLF.
        end = max(rest.rfind("\n"), rest.rfind("\r", 0, len(rest) - 1)) + 1
        if not end and len(rest) > _ONE_NUMBER and not {"{", '"'} & set(rest):
            end = rest.rfind(",") + 1
        if not end and len(rest) > _LONGEST_LINE:
            raise _line_error(line_no, "it is longer than any with an id would be.")
        if end:
            line_no += _breaks(rest[:end])
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest + "\n"


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
        found = read_json(text)
    except DuplicateName as error:
        raise _line_error(line_no, f"the object has {error}.") from None
    except ValueError:
        raise _line_error(line_no, "it is no JSON object, and begins as one.") from None
    named = [value for name, value in found.items() if _is_name(name)]
    if len(named) != 1 or type(named[0]) is not int:
        raise _line_error(line_no, "the object has no whole number as `contact_id`, or as `id`.")
    return parse_contact_id(str(named[0]), line_no)


def _read_table(table: Table) -> Iterator[list[int]]:
    """Yield the ids of one column of a table, or of rows with another delimiter than a comma."""
    if not table.first_line:
        return
    column = _set_dialect(table)
    for found in table.blocks():
        block: list[int] = []
        for row in found:
            if isinstance(row, ImportRejection):
                raise _line_error(row.line, row.detail)
            line_no, cells = row
            if table.is_blank(cells):
                continue
            listed = [cell for cell in cells if cell.strip()] if column is None else [cells[column]]
            for cell in listed:
                if find_unreadable(cell):
                    raise _line_error(line_no, "it is not text in the file's encoding.")
                block.append(parse_contact_id(cell.strip(), line_no))
        yield block


def _set_dialect(table: Table) -> int | None:
    """Set how the file is cut; gives the column of ids, None where it has no header."""
    rows = table.first_rows()
    if not rows:
        raise broken_header_error()
    headers = {
        delimiter: places
        for delimiter, row in rows.items()
        if (places := [at for at, name in enumerate(row.cells) if _is_name(name)])
    }
    if not headers:
        delimiter = max(rows, key=lambda each: sum(map(bool, map(_is_number, rows[each].cells))))
        table.set_dialect(delimiter, needed=())
        return None
    delimiter = max(headers, key=lambda each: len(rows[each].cells))
    places = headers[delimiter]
    require_width(rows[delimiter].cells)
    names = [rows[delimiter].cells[place] for place in places]
    # An `Id` beside a `Contact Id` is that of something else.
    contacts = [at for at, name in zip(places, names, strict=True) if "contact" in name.casefold()]
    if len(contacts or places) > 1:
        raise InvalidRequest(
            f"The contacts have more than one column of ids: {', '.join(names)[:200]}. Nothing was"
            " stored. Remove those that are not the contacts' ids."
        )
    (column,) = contacts or places
    table.set_dialect(delimiter, header=rows[delimiter], needed=[column])
    return column


def _line_error(line_no: int, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"Line {line_no} of the contacts: {what} Nothing was stored. Give whole numbers in plain"
        " digits, one a line or in a column `contact_id`."
    )
