"""Files that only this account may read, regardless of the umask."""

import os
from pathlib import Path


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open the file for this account alone; an opener for `open`."""
    descriptor = os.open(path, flags, 0o600)
    if os.fstat(descriptor).st_uid == os.geteuid():
        os.fchmod(descriptor, 0o600)
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Write the text into a file for this account alone."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace", opener=open_private) as file:
        file.write(text)
