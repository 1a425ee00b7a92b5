"""The bytes of a contact file: counted, hashed, and known to be what they claim."""

import codecs
import string
from hashlib import sha256
from typing import BinaryIO

from schemas.errors import WrongInput

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ZIP = b"PK\x03\x04"
_LONGEST_MARK = 4
_ASCII = string.printable + r"\u0041"


class ImportBytes:
    """Reads a binary file from its beginning, a byte order mark left out."""

    def __init__(self, stream: BinaryIO) -> None:
        self.bytes_read = 0
        self._stream = stream
        self._sha256 = sha256()

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, and none at the end. Raises WrongInput for what is no text file."""
        at_start = self.bytes_read == 0
        block = self._read(size)
        while at_start and 0 < len(block) < _LONGEST_MARK and (more := self._read(size)):
            block += more
        return _require_text(block) if at_start else block

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that was read."""
        return self._sha256.hexdigest()

    def _read(self, size: int) -> bytes:
        try:
            block = self._stream.read(size)
        except OSError as error:
            raise WrongInput(
                f"Reading the file failed after {self.bytes_read:,} bytes:"
                f" {error.strerror or error}. Nothing was stored; try the import again."
            ) from error
        self.bytes_read += len(block)
        self._sha256.update(block)
        return block


def require_encoding(encoding: str) -> None:
    """Raise WrongInput for an encoding that is unknown, or in which a comma is no comma byte."""
    try:
        usable = _ASCII.encode().decode(encoding) == _ASCII
    except (LookupError, ValueError):
        usable = False
    if not usable:
        raise WrongInput(
            f"The encoding {encoding[:40]!r} is not supported; nothing was stored. Name another,"
            " such as utf-8, cp1252, iso-8859-2 or shift_jis, or save the file as UTF-8."
        )


def _require_text(start: bytes) -> bytes:
    if start.startswith(_UTF16):
        raise WrongInput(
            "The file is in UTF-16; nothing was stored. Save it as CSV UTF-8 and import it again."
        )
    if start.startswith(_ZIP):
        raise WrongInput(
            "The file is a spreadsheet or an archive; nothing was stored. Save its sheet as CSV"
            " UTF-8 and import that."
        )
    return start.removeprefix(codecs.BOM_UTF8)
