"""Where a command writes: an answer that cannot be written is said, and ends the command."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from cli.rendering import complain
from schemas.errors import OutputFailed


class ReaderGone(Exception):
    """Nobody reads the answer any more, as after `| head`."""


class _Answers:
    """Standard output, whose failures are told apart from those of files and connections.

    Both raise OSError. What fails here is the answer, and not the work.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Raises OutputFailed and ReaderGone."""
        with _failures_told(self._stream):
            return self._stream.write(text)

    def flush(self) -> None:
        """Raises OutputFailed and ReaderGone."""
        with _failures_told(self._stream):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Notes:
    """Standard error, without which a command goes on: nobody could be told of its failure."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Never fails."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Never fails."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def answers() -> Iterator[None]:
    """Within it, standard output is written to the end or the command ends: with status 1 and a
    sentence where it cannot be written, and quietly where nobody reads any more.
    """
    given = sys.stdout, sys.stderr
    status: object = 0
    sys.stdout, sys.stderr = _wrapped(*given)
    try:
        try:
            yield
        except SystemExit as ended:
            status = ended.code
            raise
        finally:
            sys.stdout.flush()
    except ReaderGone:
        raise SystemExit(status) from None
    except OutputFailed as error:
        complain(str(error))
        raise SystemExit(error.exit_code) from None
    finally:
        sys.stdout, sys.stderr = given


@contextmanager
def for_who_reads() -> Iterator[None]:
    """An answer of a command whose exit status tells something as well: where nobody reads it any
    more, the command goes on to its status.
    """
    with suppress(ReaderGone):
        yield


def _wrapped(out: TextIO | None, err: TextIO | None) -> tuple[TextIO, TextIO]:
    """The streams; one that was closed before this process began is a place where all is lost."""
    lost = os.devnull
    return (  # type: ignore[return-value] # what is used of a TextIO, they have
        _Answers(out or open(lost, "w", encoding="utf-8")),  # noqa: PTH123
        _Notes(err or open(lost, "w", encoding="utf-8")),  # noqa: PTH123
    )


@contextmanager
def _failures_told(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _forget_the_rest(stream)
        raise ReaderGone from None
    except OSError as error:
        _forget_the_rest(stream)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise OutputFailed(
            f"The answer could not be written: {error.strerror}. What was written so far is not"
            " all of it, and what the command did stays done. "
            + (
                "Make room, or write to another disk."
                if full
                else "Write it to another file or terminal."
            )
        ) from None


def _forget_the_rest(stream: TextIO) -> None:
    """What is still buffered would fail again when the interpreter flushes it at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
