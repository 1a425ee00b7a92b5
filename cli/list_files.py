"""Lists of contacts or addresses in a file, and the question about one that looks wrong."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import typer

from cli.context import CommandContext
from cli.input_files import open_input
from cli.rendering import print_hint
from producers.submit import JobSubmission, submit
from producers.uploads import AddressUpload, ContactUpload, Upload
from schemas.actors import CLI
from schemas.errors import InvalidRequest, MostlyUnknownList
from schemas.requests import JobRequest

_UPLOAD_TYPES: dict[str, Callable[[BinaryIO, str], Upload]] = {
    "contacts": ContactUpload,
    "addresses": AddressUpload,
}


class ListFile(NamedTuple):
    """An open file with a list, and what creates an upload of it."""

    file: BinaryIO
    upload: Callable[[], Upload]


@contextmanager
def open_list(given: Mapping[str, Any]) -> Iterator[ListFile | None]:
    """Open the file of --contacts or --addresses, if there is one; raises InvalidRequest."""
    for name, upload_type in _UPLOAD_TYPES.items():
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
    if not (sys.stdin.isatty() and sys.stderr.isatty() and file.seekable()):
        raise InvalidRequest(f"{error} If they are, give --yes.") from None
    print_hint(
        f"The account does not know {error.unknown:,} of the {error.listed:,} addresses in the"
        " list."
    )
    if not typer.confirm("Is it the right list, and the right account?", err=True):
        raise InvalidRequest("The list was not confirmed. Nothing was stored.") from None
