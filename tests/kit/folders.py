"""Folders for servers, in memory where there is room for them."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4_000_000_000
"""More than all servers of a run have ever held. Containers often give less, and get a disk."""


def choose_server_folder() -> str | None:
    """Return the folder to make them in; None for the usual one.

    A database is some 300 files. To copy one costs a tenth in memory of what it costs on a disk.
    """
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        return str(_MEMORY)
    return None


@contextmanager
def server_folder() -> Iterator[Path]:
    """Make a folder with a short path, so that sockets fit in it, and remove it at the end.

    pytest's own folders are closed to the servers' account.
    """
    with tempfile.TemporaryDirectory(
        prefix="sluice-", dir=choose_server_folder(), ignore_cleanup_errors=True
    ) as name:
        yield Path(name)
