"""Reading a list of contact ids: one a line, or separated by commas."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, BinaryIO

from producers.contact_ids import contact_id
from schemas.errors import WrongInput

STDIN = "-"


def read_contact_ids(source: str) -> tuple[int, ...]:
    """The ids in the file `source`, or on standard input for `-`, in their order.

    Raises WrongInput for a file without any, and names the line of the first entry which is no
    contact id.
    """
    with opened_text(source, "--contacts") as lines:
        ids = tuple(parse_contact_ids(lines))
    if not ids:
        raise WrongInput(
            f"--contacts {source} lists no contact id. Nothing was stored. Give one id a line, or"
            " several separated by commas."
        )
    return ids


def parse_contact_ids(lines: Iterable[str]) -> Iterator[int]:
    """The ids in the lines; raises WrongInput that names the line of the first wrong one."""
    for line_no, line in enumerate(lines, start=1):
        for entry in line.split(","):
            text = entry.strip()
            if text:
                yield contact_id(text, line_no)


@contextmanager
def opened_text(source: str, option: str) -> Iterator[IO[str]]:
    """The file `source`, or standard input for `-`, as text without a byte order mark.

    Raises WrongInput, naming the option, when it cannot be read. Bytes that are not UTF-8 come
    out as replacement characters, for the reader to refuse where they stand.
    """
    try:
        file = sys.stdin.buffer if source == STDIN else Path(source).open("rb")  # noqa: SIM115
        with TextIOWrapper(file, encoding="utf-8-sig", errors="replace") as text:
            yield text
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WrongInput(f"{option} {source}: {reason}. Nothing was stored.") from None


@contextmanager
def opened_bytes(source: str, option: str) -> Iterator[BinaryIO]:
    """The file `source`, or standard input for `-`; raises WrongInput, naming the option."""
    try:
        file = sys.stdin.buffer if source == STDIN else Path(source).open("rb")  # noqa: SIM115
        with file:
            yield file
    except OSError as error:
        raise WrongInput(f"{option} {source}: {error.strerror}. Nothing was stored.") from None
