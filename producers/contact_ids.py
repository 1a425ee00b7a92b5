"""Lists of contact ids as people send them: in lines, of any number, read in blocks.

A line has an id, or several separated by commas, or a JSON object with the id as `contact_id` or
`id`; the first may be a header. Plain numbers, as nearly all lists are, are not looked at one by
one.
"""

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from producers.wrong_input import shortened
from schemas.errors import WrongInput
from schemas.requests import MAX_ID

_BYTES_AT_ONCE = 1 << 18
_LONGEST_LINE = 1 << 20
"""In bytes; of a line with commas each part is one."""

_NAMES = ("contact_id", "id")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_is_number = re.compile(r"[+-]?[0-9]{1,20}").fullmatch
_are_plain_numbers = re.compile(rb"(?:[0-9]{1,18}(?:\r?\n|,))*").fullmatch


def blocks_of_ids(file: BinaryIO) -> Iterator[list[int]]:
    """The ids in the file, in its order, a few ten thousand at a time; memory is bounded by that.

    Raises WrongInput that names the first line which is none of those described above.
    """
    line_no = 1
    for part in _parts(file):
        if _are_plain_numbers(part):
            yield list(map(int, part.replace(b",", b"\n").split()))
        else:
            yield list(_ids(part, line_no))
        line_no += part.count(b"\n")


def contact_id(text: str, line_no: int) -> int:
    """The id that `text`, on this line, says; raises WrongInput."""
    if not _is_number(text):
        raise _wrong(line_no, f"{shortened(text)!r} is not a contact id.")
    number = int(text)
    if not -MAX_ID - 1 <= number <= MAX_ID:
        raise _wrong(line_no, f"{text} is too large for a contact id.")
    return number


def _parts(file: BinaryIO) -> Iterator[bytes]:
    """The file in pieces that end where a line ends, or at a comma where a line is very long."""
    rest = file.read(len(_BYTE_ORDER_MARK)).removeprefix(_BYTE_ORDER_MARK)
    line_no = 1
    while read := file.read(_BYTES_AT_ONCE):
        rest += read
        end = rest.rfind(b"\n") + 1
        if not end and b"{" not in rest:
            end = rest.rfind(b",") + 1
        if not end and len(rest) > _LONGEST_LINE:
            raise _wrong(line_no, "it is longer than any with an id would be.")
        if end:
            line_no += rest.count(b"\n", 0, end)
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest + b"\n"


def _ids(part: bytes, first_line: int) -> Iterator[int]:
    lines = part.decode(errors="replace").split("\n")
    for line_no, line in enumerate(lines, start=first_line):
        text = line.strip()
        if text.startswith("{"):
            yield _id_of_object(text, line_no)
            continue
        for entry in text.split(","):
            cell = entry.strip().removeprefix('"').removesuffix('"')
            if cell and not (line_no == 1 and cell.lower() in _NAMES):
                yield contact_id(cell, line_no)


def _id_of_object(text: str, line_no: int) -> int:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(line_no, "it is no JSON object, and begins as one.") from None
    named = [found[name] for name in _NAMES if name in found]
    if len(named) != 1 or type(named[0]) is not int:
        raise _wrong(line_no, "the object has no whole number as `contact_id`, or as `id`.")
    return contact_id(str(named[0]), line_no)


def _wrong(line_no: int, what: str) -> WrongInput:
    return WrongInput(
        f"Line {line_no} of the contacts: {what} Nothing was stored. Give whole numbers, one a"
        " line or separated by commas."
    )
