"""Folders for servers, in memory if there is enough room."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4_000_000_000
"""More than all servers of a run have ever needed. Containers often have less and use a disk."""


def choose_server_folder() -> str | None:
    """Return the folder to create server folders in, or None for the default.

    A database is some 300 files; copying one in memory takes a tenth of the time on a disk.
    """
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        return str(_MEMORY)
    return None


@contextmanager
def server_folder() -> Iterator[Path]:
    """Yield a folder whose path is short enough for sockets, and remove it at the end.

    The servers' account has no access to pytest's own folders.
    """
    with tempfile.TemporaryDirectory(
        prefix="sluice-", dir=choose_server_folder(), ignore_cleanup_errors=True
    ) as name:
        yield Path(name)
