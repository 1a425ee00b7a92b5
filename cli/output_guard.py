"""Standard output and error of a command: their encoding, and an answer that cannot be written."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import TextIOWrapper
from typing import Any, TextIO

from cli.rendering import print_error
from schemas.errors import InvalidRequest, OutputError


def encode_output() -> None:
    """Write UTF-8 to files and pipes, so that an export is the same everywhere.

    A terminal gets its own encoding. Characters that cannot be encoded are escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        # None where it was closed before the start.
        if isinstance(stream, TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


class OutputClosed(Exception):
    """The reader has closed the pipe, as after `| head`."""


_Guard = Callable[[TextIO], AbstractContextManager[None]]


class _GuardedStream:
    """A stream whose failures are told apart from those of files and connections.

    All of them raise OSError. What fails here is the answer, and not the work.
    """

    def __init__(self, stream: TextIO, guard: _Guard) -> None:
        self._stream = stream
        self._guard = guard

    def write(self, text: str) -> int:
        with self._guard(self._stream):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._guard(self._stream):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guard_output() -> Iterator[None]:
    """End the command if its answer cannot be written.

    It ends with a sentence and status 1, or quietly if the reader has closed the pipe.
    """
    given = sys.stdout, sys.stderr
    status: object = 0
    sys.stdout = _wrap_stream(sys.stdout, _translate_errors)
    # A command goes on without standard error, since there is nowhere to report its failure.
    sys.stderr = _wrap_stream(sys.stderr, lambda _: suppress(OSError))
    try:
        try:
            yield
        except SystemExit as ended:
            status = ended.code
            raise
        finally:
            sys.stdout.flush()
    except OutputClosed:
        raise SystemExit(status) from None
    except OutputError as error:
        print_error(str(error))
        raise SystemExit(error.exit_code) from None
    finally:
        sys.stdout, sys.stderr = given


def require_stdout() -> None:
    """Raise InvalidRequest if standard output was closed before this process began.

    A command calls it before it creates a secret that only its answer shows.
    """
    # `guard_output` has put another stream in place of `sys.stdout`.
    if sys.__stdout__ is None:
        raise InvalidRequest(
            "Standard output is closed, so the secret could not be shown. Nothing was changed."
            " Open standard output and try again."
        )


def _wrap_stream(stream: TextIO | None, guard: _Guard) -> TextIO:
    """Guard the stream; output to one that was closed before this process began is dropped."""
    kept = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    return _GuardedStream(kept, guard)  # type: ignore[return-value] # has what is used of a TextIO


@contextmanager
def _translate_errors(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is buffered would fail again when the interpreter exits.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise OutputClosed from None
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise OutputError(
            f"The answer could not be written: {error.strerror}. It is incomplete, and what the"
            " command did stays done. "
            + ("Free some space, or write to another disk." if full else "Write it elsewhere.")
        ) from None
