"""How answers and errors are encoded, whatever the locale of the terminal says."""

import sys
from io import TextIOWrapper


def encode_output() -> None:
    """Write UTF-8 into files and pipes, so that an export is the same everywhere.

    A terminal is written to in its own encoding. What that, or any, cannot encode is escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        # None where it was closed before the start.
        if isinstance(stream, TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
