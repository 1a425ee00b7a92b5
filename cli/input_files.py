"""Files that a command reads (`-`: standard input): lists of contacts or addresses, evidence."""

import os
import pwd
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import typer

from cli.context import CommandContext
from cli.rendering import print_hint
from producers.file_text import read_text
from producers.submit import JobSubmission, submit
from producers.uploads import UPLOAD_TYPES, Upload
from schemas.actors import CLI
from schemas.errors import InvalidRequest, MostlyUnknownList, error_text
from schemas.json_input import DuplicateName, read_json
from schemas.requests import JobRequest

STDIN = "-"


def get_stdin() -> BinaryIO:
    """Return standard input; raises InvalidRequest if it was closed before this process began."""
    if sys.stdin is None:
        raise InvalidRequest(
            "Standard input is closed. Nothing was stored. Name a file instead of -, or redirect"
            " standard input."
        )
    return sys.stdin.buffer


@contextmanager
def open_input(source: str, option: str) -> Iterator[BinaryIO]:
    """Open the file `source`, or standard input for `-`; raises InvalidRequest."""
    try:
        file = get_stdin() if source == STDIN else Path(source).open("rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(f"{option} {source}: {reason}. Nothing was stored.") from None
    with file:
        yield file


class ListFile(NamedTuple):
    """An open file with a list, and what creates an upload of it."""

    file: BinaryIO
    upload: Callable[[], Upload]


@contextmanager
def open_list(given: Mapping[str, Any]) -> Iterator[ListFile | None]:
    """Open the file of --contacts or --addresses, if there is one; raises InvalidRequest."""
    for name, upload_type in UPLOAD_TYPES.items():
        if given.get(name) is not None:
            with open_input(given[name], f"--{name}") as file:
                yield ListFile(file, partial(upload_type, file, given["encoding"]))
            return
    yield None


async def submit_with_list(
    ctx: CommandContext, request: JobRequest, listed: ListFile | None, *, is_confirmed: bool
) -> JobSubmission:
    """Submit the request with its list.

    Unless `is_confirmed`, ask first if the account does not know most addresses of the list.
    """
    send = partial(submit, ctx.pool, ctx.settings, request, actor=CLI)
    try:
        return await send(
            upload=listed.upload() if listed else None, allow_mostly_unknown=is_confirmed
        )
    except MostlyUnknownList as error:
        assert listed is not None
        _confirm(error, listed.file)
    # The job gets the list that the question was about, so the file is read again.
    listed.file.seek(0)
    return await send(upload=listed.upload(), allow_mostly_unknown=True)


def _confirm(error: MostlyUnknownList, file: BinaryIO) -> None:
    """Ask at the terminal; raises InvalidRequest if the answer is no or nobody can answer."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty() and file.seekable()):
        raise InvalidRequest(f"{error} If they are, give --yes.") from None
    print_hint(
        f"The account does not know {error.unknown:,} of the {error.listed:,} addresses in the"
        " list."
    )
    if not typer.confirm("Is it the right list, and the right account?", err=True):
        raise InvalidRequest("The list was not confirmed. Nothing was stored.") from None


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
