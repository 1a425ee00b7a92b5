"""Files that a command reads, or standard input, and the name of the user."""

import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from producers.file_text import read_text
from schemas.errors import InvalidRequest, error_text
from schemas.json_input import DuplicateName, read_json

STDIN = "-"


@contextmanager
def open_input(source: str, option: str) -> Iterator[BinaryIO]:
    """Open the file `source`, or standard input for `-`; raises InvalidRequest."""
    try:
        file = sys.stdin.buffer if source == STDIN else Path(source).open("rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(f"{option} {source}: {reason}. Nothing was stored.") from None
    with file:
        yield file


def read_evidence(source: str, encoding: str = "utf-8") -> dict[str, Any]:
    """Read the evidence from a JSON file, or standard input for `-`; raises InvalidRequest."""
    option = f"--evidence {source}"
    with open_input(source, "--evidence") as file:
        text = read_text(file, option, encoding=encoding)
    try:
        evidence = read_json(text)
    except DuplicateName as error:
        raise InvalidRequest(
            f"{option} has {error}. Nothing was stored. Give each name once."
        ) from None
    except ValueError as error:
        raise InvalidRequest(
            f"{option} is not JSON: {error_text(error)}. Nothing was stored."
        ) from None
    if not isinstance(evidence, dict):
        raise InvalidRequest(
            f"{option} holds no JSON object. Nothing was stored. Write the answers as"
            ' {"source": "web_form", "description": "…"}.'
        )
    return evidence


def get_user_name() -> str:
    """Return the name of the user who runs this process, else the user's number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
