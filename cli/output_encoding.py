"""The encoding of answers and errors, whatever the locale is."""

import sys
from io import TextIOWrapper


def encode_output() -> None:
    """Write UTF-8 to files and pipes, so that an export is the same everywhere.

    A terminal gets its own encoding. Characters that cannot be encoded are escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        # None where it was closed before the start.
        if isinstance(stream, TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
