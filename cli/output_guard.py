"""Where a command writes: an answer that cannot be written is said, and ends the command."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from cli.rendering import print_error
from schemas.errors import OutputError


class OutputClosed(Exception):
    """The reader of the answer is gone, as after `| head`."""


class _GuardedStdout:
    """Standard output, whose failures are told apart from those of files and connections.

    Both raise OSError. What fails here is the answer, and not the work.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text; raises OutputError and OutputClosed."""
        with _translate_errors(self._stream):
            return self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream; raises OutputError and OutputClosed."""
        with _translate_errors(self._stream):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _LossyStderr:
    """Standard error, without which a command goes on: its failure could be reported nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text; never fails."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; never fails."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guard_output() -> Iterator[None]:
    """Write standard output to the end, or end the command.

    It ends with status 1 and an error if output cannot be written, and silently if its reader is
    gone.
    """
    given = sys.stdout, sys.stderr
    status: object = 0
    sys.stdout, sys.stderr = _wrap_streams(*given)
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


@contextmanager
def ignore_closed_output() -> Iterator[None]:
    """Ignore a closed pipe while printing, so that a command goes on to its exit status."""
    with suppress(OutputClosed):
        yield


def _wrap_streams(out: TextIO | None, err: TextIO | None) -> tuple[TextIO, TextIO]:
    """Wrap the streams. One that was closed before this process began discards what it gets."""
    lost = os.devnull
    return (  # type: ignore[return-value] # what is used of a TextIO, they have
        _GuardedStdout(out or open(lost, "w", encoding="utf-8")),  # noqa: PTH123
        _LossyStderr(err or open(lost, "w", encoding="utf-8")),  # noqa: PTH123
    )


@contextmanager
def _translate_errors(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _discard_buffer(stream)
        raise OutputClosed from None
    except OSError as error:
        _discard_buffer(stream)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise OutputError(
            f"The answer could not be written: {error.strerror}. What was written so far is not"
            " all of it, and what the command did stays done. "
            + (
                "Make room, or write to another disk."
                if full
                else "Write it to another file or terminal."
            )
        ) from None


def _discard_buffer(stream: TextIO) -> None:
    """Discard what is buffered, which would fail again when the interpreter flushes it at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
