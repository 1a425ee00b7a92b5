"""An embedded Postgres and Valkey, shared by all processes that use one directory.

The first user starts a keeper (`runtime.devservers.keeper`), which starts the servers and stops
them when the last user has left. It also notices when a user is killed.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from runtime.devservers.directory import ServerDirectory, ServerUrls, open_lock_file, try_lock
from runtime.devservers.extra import DEFAULT_DIRECTORY
from runtime.devservers.keeper import stop_servers
from runtime.private_files import open_private
from schemas.errors import ServerStartError, error_text

__all__ = ["ServerUrls", "embedded_servers"]

START_SECONDS = 320.0
STOP_SECONDS = 150.0
_POLL_SECONDS = 0.02


@contextmanager
def embedded_servers(
    directory: Path = DEFAULT_DIRECTORY, *, durable: bool = True
) -> Iterator[ServerUrls]:
    """Start both servers if they do not run; yield their URLs once they are ready.

    They are shared with every other process that uses `directory`, and stop when the last one
    leaves. `durable=False` trades safety against power cuts for speed; the process that starts the
    servers decides. Raises ServerStartError, with the end of the server's log, if one does not
    start.
    """
    place = ServerDirectory(directory.absolute().resolve())
    with _open_users_lock(place) as users:
        try:
            yield _join(place, users, durable=durable)
        finally:
            # Also after Ctrl-C while the servers were starting.
            _leave(place, users)


@contextmanager
def _open_users_lock(place: ServerDirectory) -> Iterator[IO[bytes]]:
    try:
        place.make_root()
        lock = open(place.users_lock, "ab", opener=open_private)  # noqa: SIM115 - closed below
    except OSError as error:
        raise ServerStartError(
            f"The embedded servers cannot use the folder {place.root}: {error_text(error)}."
            " Nothing was started. Make it writable for you, change to another folder, or set"
            " DATABASE_URL and REDIS_URL to your own servers."
        ) from error
    with lock:
        yield lock


def _join(place: ServerDirectory, users: IO[bytes], *, durable: bool) -> ServerUrls:
    """Become a user, start a keeper if there is none, and wait for the servers."""
    deadline = time.monotonic() + START_SECONDS
    member = seen_keeper = False
    while time.monotonic() < deadline:
        # Fails while a keeper stops the servers because no user was left.
        member = member or try_lock(users, fcntl.LOCK_SH)
        if member:
            with _hold_start_lock(place):
                alive = place.has_keeper()
                if not alive:
                    if seen_keeper and place.failure.exists():
                        raise ServerStartError(place.failure.read_text(encoding="utf-8"))
                    _start_keeper(place, durable=durable)
            seen_keeper = True
            if alive and (published := place.read_servers()):
                return published[0]
        time.sleep(_POLL_SECONDS)
    raise ServerStartError(
        f"The embedded servers were not ready within {START_SECONDS:.0f} seconds. Your data was"
        f" kept. See {place.keeper_log}, or set DATABASE_URL and REDIS_URL to your own servers."
    )


def _start_keeper(place: ServerDirectory, *, durable: bool) -> None:
    """Start the keeper, and return once it lives or has failed."""
    done = subprocess.run(  # noqa: S603
        [
            sys.executable,
            *("-m", "runtime.devservers.keeper", str(place.root)),
            *([] if durable else ["--not-durable"]),
        ],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ServerStartError(
            "The keeper of the embedded servers could not be started. Nothing was changed. Set"
            " DATABASE_URL and REDIS_URL to your own servers, or correct this error:"
            f"\n{done.stderr.strip()}"
        )


def _leave(place: ServerDirectory, users: IO[bytes]) -> None:
    """Stop being a user; the last one waits until the servers have stopped."""
    if not try_lock(users, fcntl.LOCK_EX):
        # Other users remain, or the keeper has just noticed that none do.
        return
    with _hold_start_lock(place):
        if not place.has_keeper():
            stop_servers(place)
            return
    told = False
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        with _hold_start_lock(place):
            if not place.has_keeper():
                return
            # A keeper that is still starting the servers has not published its process id.
            if not told and (published := place.read_servers()):
                told = True
                with suppress(ProcessLookupError):
                    os.kill(published[1], signal.SIGTERM)
        time.sleep(_POLL_SECONDS)


@contextmanager
def _hold_start_lock(place: ServerDirectory) -> Iterator[None]:
    """Keep other processes from starting a keeper, or looking for one, meanwhile."""
    with open_lock_file(place.start_lock) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
