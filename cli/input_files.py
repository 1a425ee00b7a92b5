"""Files that a command is given, or standard input."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from schemas.errors import InvalidRequest

STDIN = "-"


@contextmanager
def open_input(source: str, option: str) -> Iterator[BinaryIO]:
    """Open the file `source`, or standard input for `-`; raises InvalidRequest, which names
    the option.
    """
    try:
        file = sys.stdin.buffer if source == STDIN else Path(source).open("rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(f"{option} {source}: {reason}. Nothing was stored.") from None
    with file:
        yield file
