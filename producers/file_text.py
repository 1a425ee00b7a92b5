"""Read the text of a file of any size: its encoding, and its physical lines.

All files from outside are read here: imports, lists of addresses and of ids, evidence. Bytes that
are not text become unpaired surrogates, which readers reject where they stand.
"""

import codecs
import io
import re
import string
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple

from schemas.errors import InvalidRequest
from schemas.json_input import DuplicateName, read_json

BLOCK_BYTES = 1 << 18
"""Bytes in a block."""

MAX_CELL = 10_000
"""Characters of a cell."""

MAX_LINE = 1 << 20
"""Characters of a physical line, or of a row of several lines."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BEFORE_TEXT = "\ufeff"
_NO_TEXT = {
    b"PK\x03\x04": "a spreadsheet or an archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of an old format",
    b"\x1f\x8b": "compressed",
    b"%PDF": "a PDF document",
}
_WIDE = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"})
_ASCII = string.printable + r"\u0041"
FIRST_BLOCK_BYTES = 1 << 12
"""Bytes that show the kind of a file; the first block has at least these."""

_UNDECODABLE = "sluice.undecodable"

find_unreadable = re.compile("[\x00\ud800-\udfff]").search
"""Finds the first character that is not text: a NUL, or a surrogate for a byte."""


def _as_surrogates(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in wrong), error.end


codecs.register_error(_UNDECODABLE, _as_surrogates)


class FileText:
    """Reads a binary file as text, without a byte order mark.

    A byte order mark, or the NULs of UTF-16, override the named encoding. Raises InvalidRequest for
    an unknown encoding, for a file that is not text, and if reading fails.
    """

    def __init__(self, stream: BinaryIO, encoding: str = "utf-8") -> None:
        require_encoding(encoding)
        self.bytes_read = 0
        self.encoding = encoding
        self._stream = stream
        self._digest_text = sha256()
        self._decoder: codecs.IncrementalDecoder | None = None
        self._ended = False
        self._looked_at = ""

    def beginning(self) -> str:
        """Return the first block of text, which `read` returns again."""
        self._looked_at = self._looked_at or self.read()
        return self._looked_at

    def read(self) -> str:
        """Return the next block of text, empty at the end."""
        if self._looked_at:
            looked_at, self._looked_at = self._looked_at, ""
            return looked_at
        while not self._ended:
            is_first = self._decoder is None
            block = self._block(max(BLOCK_BYTES, FIRST_BLOCK_BYTES) if is_first else BLOCK_BYTES)
            self._ended = not block
            text = self._decode(block)
            if is_first:
                text = text.removeprefix(_BEFORE_TEXT)
            if text:
                return text
        return ""

    def _decode(self, block: bytes) -> str:
        if self._decoder is None:
            self.encoding = _encoding_of(block, self.encoding)
            self._decoder = codecs.getincrementaldecoder(self.encoding)(_UNDECODABLE)
        try:
            return self._decoder.decode(block, final=self._ended)
        except UnicodeError:
            # In some states of some encodings, wrong bytes do not reach the handler.
            raise InvalidRequest(
                f"The file is not text in {self.encoding}. Nothing was stored."
                f" {encoding_advice(self.encoding)}"
            ) from None

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of the bytes read so far."""
        return self._digest_text.hexdigest()

    def drain(self) -> None:
        """Read the rest of the file, only for its digest."""
        while self._block(BLOCK_BYTES):
            pass

    def _block(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end of the file."""
        parts, wanted = [], size
        while wanted > 0 and (part := self._read(wanted)):
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        try:
            part = self._stream.read(size)
        except OSError as error:
            raise InvalidRequest(
                f"Reading the file failed after {self.bytes_read:,} bytes:"
                f" {error.strerror or error}. Nothing was stored. Try again."
            ) from error
        self.bytes_read += len(part)
        self._digest_text.update(part)
        return part


def read_text(stream: BinaryIO, what: str, *, encoding: str) -> str:
    """Return the whole text of a small file; raises InvalidRequest if it is not all text.

    Valid UTF-8 is read as such, whatever encoding is named: other texts that are not ASCII are not
    valid UTF-8, and the name may be about another file.
    """
    require_encoding(encoding)
    source = FileText(stream)
    text = "".join(iter(source.read, ""))
    if source.encoding == "utf-8" and (find_unreadable(text) or text.isascii()):
        data = text.encode(errors="surrogateescape")
        source = FileText(io.BytesIO(data), encoding)
        text = "".join(iter(source.read, ""))
    if found := find_unreadable(text):
        line = text.count("\n", 0, found.start()) + 1
        raise InvalidRequest(
            f"{what} is not text in {source.encoding}: line {line} has"
            f" {'a NUL byte' if found.group() == chr(0) else 'bytes of another encoding'}. Nothing"
            f" was stored. {encoding_advice(source.encoding)}"
        )
    return text


# Python also has encodings that are not of text (base64, zlib) or have other purposes (idna,
# punycode, unicode_escape); some of these take a second per 100 KB.
_is_text = re.compile(
    r"ascii|utf-8(-sig)?|utf-(16|32)(-[bl]e)?|iso8859-\d+|iso2022_\w+|cp\d+|koi8-\w|mac-\w+"
    r"|big5\w*|gb\w+|euc_\w+|shift_jis\w*|johab|kz1048|ptcp154|tis-620|hp-roman8|hz"
).fullmatch


def find_charset(name: str) -> str | None:
    """Return Python's name of the encoding; None if it is not one of text."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return found if _is_text(found) else None


def require_encoding(encoding: str) -> None:
    """Raise InvalidRequest for an encoding that is unknown, or does not contain ASCII."""
    name = find_charset(encoding)
    if name is None or not (name in _WIDE or _ASCII.encode().decode(name, "replace") == _ASCII):
        raise InvalidRequest(
            f"The encoding {encoding[:40]!r} is not supported. Nothing was stored. Name another,"
            " such as utf-8, cp1252, iso-8859-2 or shift_jis, or save the file as UTF-8."
        )


def encoding_advice(encoding: str) -> str:
    """Return what to do about a file that is not text in `encoding`."""
    if encoding.lower().replace("_", "-") in {"utf-8", "utf8", "utf-8-sig", "ascii"}:
        return "Name the encoding in which it was saved; from Excel that is often cp1252."
    return "Name the encoding in which it was saved."


def _encoding_of(start: bytes, named: str) -> str:
    for mark, what in _NO_TEXT.items():
        if start.startswith(mark):
            raise InvalidRequest(
                f"The file is {what}, not text. Nothing was stored. Save its contents as CSV UTF-8"
                " and give that file."
            )
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    looked_at = start[:FIRST_BLOCK_BYTES]
    # In UTF-16, most Western text has a NUL in one byte of each pair, and none in the other.
    if len(looked_at) > 1:
        for encoding, nuls, others in (
            ("utf-16-le", looked_at[1::2], looked_at[::2]),
            ("utf-16-be", looked_at[::2], looked_at[1::2]),
        ):
            if 2 * nuls.count(0) > len(nuls) and not others.count(0):
                return encoding
    return named


def read_json_line(line: str) -> Any:
    """Return the JSON in a line of a list; raises ValueError that says what is wrong."""
    try:
        return read_json(line)
    except DuplicateName as error:
        raise ValueError(f"the object has {error}.") from None
    except ValueError:
        raise ValueError("it is not a JSON object.") from None


class LineBatch(NamedTuple):
    """Complete physical lines, each with its ending: LF, CRLF or a lone CR.

    `odd` if a line has a character that is not text, or is long.
    """

    lines: list[str]
    odd: bool


def read_lines(source: FileText) -> Iterator[LineBatch]:
    """Yield the lines of a file, a block at a time, in bounded memory.

    A placeholder that is too large for a cell replaces a line longer than `MAX_LINE`.
    """
    rest = ""
    while text := source.read():
        text = rest + text
        lines = _split(text)
        # The last line may continue in the next block; a CR at the end may be half of a CRLF.
        rest = "" if text.endswith("\n") else lines.pop()
        if len(rest) > MAX_LINE:
            placeholder, rest = _skip_line(rest, source)
            lines.append(placeholder)
        if lines:
            yield LineBatch(lines, _is_odd(text, lines))
    if rest:
        lines = _split(rest)
        yield LineBatch(lines, _is_odd(rest, lines))


def _split(text: str) -> list[str]:
    if any(character in text for character in _OTHER_BREAKS):
        return list(io.StringIO(text, newline=""))
    return text.splitlines(keepends=True)


_OTHER_BREAKS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters at which Python breaks lines, but files do not."""


def _is_odd(text: str, lines: list[str]) -> bool:
    if "\x00" in text or len(max(lines, key=len)) > MAX_CELL:
        return True
    return not text.isascii() and find_unreadable(text) is not None


def _skip_line(begun: str, source: FileText) -> tuple[str, str]:
    """Read to the end of a very long line, and return its placeholder and the text after it."""
    quotes = 0
    line, others = begun, [""]
    while line and not line.endswith(("\n", "\r")):
        quotes += line.count('"')
        line, *others = _split(source.read()) or [""]
    quotes += line.count('"')
    after = "".join(others)
    if line.endswith("\r") and not after:
        after = source.read().removeprefix("\n")
    # Of its content, only an open quoted cell matters.
    return "x" * (MAX_CELL + 1) + '"' * (quotes % 2) + "\n", after
