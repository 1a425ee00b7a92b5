"""The physical lines of a file of any size, in bounded memory."""

import re
from collections.abc import Iterator, Sequence
from operator import methodcaller
from typing import Protocol

MAX_CELL = 10_000
"""Characters that a cell may have."""

MAX_LINE = 1 << 20
"""Bytes that a physical line may have, and characters that a row of several lines may have."""

BLOCK = 1 << 18

_has_nul = methodcaller("__contains__", 0)
_unreadable = re.compile("[\x00\ud800-\udfff]").search


class Source(Protocol):
    """Where the bytes come from."""

    def read(self, size: int, /) -> bytes: ...


class RowTooLong(Exception):
    """The row in hand has grown past `MAX_LINE`."""


class PhysicalLines:
    """The lines of a file, each with its ending, as text.

    A line ends with LF, CRLF or a lone CR. `held` are the lines of the row in hand: whoever reads
    rows empties it after each. Bytes that are not text arrive as lone surrogates, and NUL bytes as
    they are; neither is found behind line `suspect_through`. A line longer than MAX_LINE arrives
    as a stand-in that is too large for a cell, and is never kept in memory.
    """

    def __init__(self, source: Source, encoding: str) -> None:
        self.held: list[str] = []
        self._source = source
        self._encoding = encoding
        self._again: list[str] = []
        self._handed_out = 0
        self.suspect_through = 0
        self._flow = (line for batch in self._batches() for line in batch)

    def for_rows(self) -> Iterator[str]:
        """The coming lines, each held as it is handed out. Raises RowTooLong."""
        held = self.held
        size = 0
        while self._again:
            held.append(line := self._again.pop())
            yield line
        for line in self._flow:
            if held:  # The row goes on from the line before: a cell has a line break.
                size += len(line)
                if size > MAX_LINE:
                    self._again.append(line)
                    raise RowTooLong
            else:
                size = len(line)
            held.append(line)
            yield line

    def take(self) -> str | None:
        """The next line, not held; None at the end."""
        return self._again.pop() if self._again else next(self._flow, None)

    def put_back(self, lines: Sequence[str]) -> None:
        """Have these lines come again. Iterators of `for_rows` that were begun are spent by it."""
        self._again.extend(reversed(lines))

    def _batches(self) -> Iterator[list[str]]:
        """Complete lines, a block's worth at a time."""
        rest = b""
        while block := self._source.read(BLOCK):
            data = rest + block
            lines = data.splitlines(keepends=True)
            # The last line may go on in the next block; a CR at the end may be half of a CRLF.
            rest = b"" if data.endswith(b"\n") else lines.pop()
            yield self._text(lines)
            if len(rest) > MAX_LINE:
                stand_in, rest = self._pass_over(rest)
                yield self._text([stand_in])
        if rest:
            yield self._text(rest.splitlines(keepends=True))

    def _pass_over(self, begun: bytes) -> tuple[bytes, bytes]:
        """Read to the end of a line without end; gives its stand-in, and what follows it."""
        quotes = 0
        line, others = begun, [b""]
        while line and not line.endswith((b"\n", b"\r")):
            quotes += line.count(b'"')
            line, *others = self._source.read(BLOCK).splitlines(keepends=True) or [b""]
        quotes += line.count(b'"')
        after = b"".join(others)
        if line.endswith(b"\r") and not after:
            after = self._source.read(1).removeprefix(b"\n")
        # Whether a quoted cell is still open is all that matters of its content.
        return b"x" * (MAX_CELL + 1) + b'"' * (quotes % 2) + b"\n", after

    def _text(self, lines: list[bytes]) -> list[str]:
        self._handed_out += len(lines)
        encoding = self._encoding
        try:
            text = [line.decode(encoding) for line in lines]
        except UnicodeDecodeError:
            text = [line.decode(encoding, "surrogateescape") for line in lines]
            self.suspect_through = self._handed_out
        if any(map(_has_nul, lines)):
            self.suspect_through = self._handed_out
        return text


def is_unreadable(text: str) -> str | None:
    """The first character that is no text: a NUL, or a surrogate for a byte; or None."""
    found = _unreadable(text)
    return found.group() if found else None
