"""The files in a directory of embedded servers, and the locks of its users.

`users.lock`   every user holds it shared while it lives; the keeper takes it exclusively to see
               that no user is left. The kernel releases it when a process is killed.
`keeper.lock`  the keeper holds it while it lives.
`start.lock`   held briefly to look for a keeper or to start one.
`servers.json` the URLs; it exists exactly while the servers are ready.
"""

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from runtime.devservers.postgres import PostgresPaths
from runtime.devservers.valkey import ValkeyPaths
from runtime.private_files import open_private, write_private

# A socket's path may have 107 bytes on Linux and 103 on macOS, without its terminator.
_SOCKET_PATH_BYTES = 103
_LONGEST_SOCKET_NAME = "/.s.PGSQL.5432"
# Paths of these characters need no quoting in either server's configuration.
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")


class ServerUrls(NamedTuple):
    """The URLs of the two servers."""

    database_url: str
    redis_url: str


class ServerDirectory:
    """The files of one directory; nothing is created before it is needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.users_lock = root / "users.lock"
        self.keeper_lock = root / "keeper.lock"
        self.start_lock = root / "start.lock"
        self.keeper_log = root / "keeper.log"
        self.failure = root / "failure.txt"
        self._servers = root / "servers.json"
        self._sockets_elsewhere = root / "sockets.txt"

    def make_root(self) -> None:
        """Make the directory, or close one that is there to other accounts, passing through aside:
        the servers' own account may have to (`allow_traversal`).
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.root.stat()
        if found.st_uid == os.geteuid():
            self.root.chmod(found.st_mode & ~0o066)

    def postgres(self, sockets: Path) -> PostgresPaths:
        """Return where the directory's Postgres lives."""
        return PostgresPaths(self.root / "postgres", sockets, self.root / "postgres.log")

    def valkey(self, sockets: Path) -> ValkeyPaths:
        """Return where the directory's Valkey lives."""
        return ValkeyPaths(self.root / "valkey", sockets, self.root / "valkey.log")

    def sockets(self) -> Path:
        """Return the folder of the sockets: inside, or a private one elsewhere if the path is too
        long.

        It stays the same while the directory is used, so that a restarted server is found again.
        """
        inside = self.root / "sockets"
        path_bytes = len(os.fsencode(inside)) + len(_LONGEST_SOCKET_NAME)
        if path_bytes <= _SOCKET_PATH_BYTES and _PLAIN.fullmatch(str(inside)):
            return inside
        with suppress(OSError):
            elsewhere = Path(self._sockets_elsewhere.read_text(encoding="utf-8"))
            if elsewhere.is_dir():
                return elsewhere
        elsewhere = Path(tempfile.mkdtemp(prefix="sluice-", dir="/tmp"))
        write_private(self._sockets_elsewhere, str(elsewhere))
        return elsewhere

    def remove_sockets(self) -> None:
        """Remove the sockets' folder; the servers have stopped."""
        sockets = self.sockets()
        for leftover in sockets.glob("*"):
            leftover.unlink()
        with suppress(FileNotFoundError):
            sockets.rmdir()
        self._sockets_elsewhere.unlink(missing_ok=True)

    def publish_servers(self, servers: ServerUrls) -> None:
        """Publish where the servers are. A reader sees all of it or nothing."""
        draft = self._servers.with_suffix(".tmp")
        write_private(draft, json.dumps(servers._asdict() | {"keeper": os.getpid()}))
        draft.replace(self._servers)

    def unpublish_servers(self) -> None:
        """Take back what `publish_servers` told."""
        self._servers.unlink(missing_ok=True)

    def read_servers(self) -> tuple[ServerUrls, int] | None:
        """Return the servers' URLs and the keeper's process id; None until they are ready."""
        try:
            told = json.loads(self._servers.read_text(encoding="utf-8"))
            return ServerUrls(told["database_url"], told["redis_url"]), int(told["keeper"])
        except FileNotFoundError:
            return None

    def has_keeper(self) -> bool:
        """Return whether a keeper runs. Call it only while holding `start_lock`."""
        with open_lock_file(self.keeper_lock) as lock:
            return not try_lock(lock, fcntl.LOCK_EX)


@contextmanager
def open_lock_file(path: Path) -> Iterator[IO[bytes]]:
    """Open the lock file at `path`; closing it releases the lock."""
    with open(path, "ab", opener=open_private) as lock:
        yield lock


def try_lock(lock: IO[bytes], kind: int) -> bool:
    """Take a lock of `kind` (`fcntl.LOCK_SH` or `LOCK_EX`) if that needs no waiting."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
