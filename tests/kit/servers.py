"""Postgres and Valkey for a chaos run, which alone starts and stops them.

Elsewhere, a keeper restarts a server that died. Here a fault decides how long it is down.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
import psutil

from db.grants import grant
from db.pool import connect_options
from runtime.devservers.account import allow_traversal, choose_server_account, make_owned_directory
from runtime.devservers.directory import ServerDirectory
from runtime.devservers.keeper import stop_servers
from runtime.devservers.postgres import postgres_process, postgres_url, start_postgres
from runtime.devservers.process import ServerProcess, is_alive
from runtime.devservers.valkey import start_valkey, valkey_process, valkey_url

_GONE_SECONDS = 30.0

PROCESS_ROLE = "sluice_processes"
"""The role of worker and web processes, which must not change or delete history."""


class ChaosServers:
    """Both servers in one folder. Postgres flushes to disk, because an acknowledged commit must
    survive an immediate restart.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._directory = ServerDirectory(folder.absolute().resolve())
        self._owner = choose_server_account(self._directory.root / "postgres")
        self._sockets = self._directory.sockets()
        make_owned_directory(self._sockets, self._owner)
        allow_traversal(self._sockets, self._owner)
        self.database_url = postgres_url(self._sockets)
        self.redis_url = valkey_url(self._sockets)
        self.redis_socket = self._sockets / "valkey.sock"

    def start_postgres(self) -> None:
        """Start Postgres, and wait until it has recovered and accepts connections."""
        place = self._directory.postgres(self._sockets)
        allow_traversal(place.data, self._owner)
        start_postgres(place, self._owner, durable=True)

    def start_redis(self) -> None:
        """Start Valkey, empty."""
        start_valkey(self._directory.valkey(self._sockets), self._owner)

    def crash_postgres(self) -> None:
        """Stop Postgres in immediate mode, without ending sessions and without a checkpoint."""
        place = self._directory.postgres(self._sockets)
        _end(postgres_process(place), signal.SIGQUIT)

    def kill_redis(self) -> None:
        """Kill Valkey; all its data is lost."""
        _end(valkey_process(self._directory.valkey(self._sockets)), signal.SIGKILL)

    def stop(self) -> None:
        """Stop both."""
        stop_servers(self._directory)


@contextmanager
def chaos_servers(folder: Path) -> Iterator[ChaosServers]:
    """Yield both running servers; stop them on any exit."""
    servers = ChaosServers(folder)
    try:
        servers.start_redis()
        servers.start_postgres()
        yield servers
    finally:
        servers.stop()


async def grant_process_role(owners_url: str) -> str:
    """Grant processes' privileges to their own role, creating it if missing.

    Return the URL of that role; the owner's URL is for the checks.
    """
    owner = await asyncpg.connect(**connect_options(owners_url, pgbouncer=True))
    try:
        password = urlsplit(owners_url).password or "of-no-use-elsewhere"
        with suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            await owner.execute(f"create role {PROCESS_ROLE} login password '{unquote(password)}'")
        await grant(owner, PROCESS_ROLE)
    finally:
        await owner.close()
    return process_role_url(owners_url)


def process_role_url(owners_url: str, role: str = PROCESS_ROLE) -> str:
    """Return the URL of the same database for the processes' role, or for another one."""
    parts = urlsplit(owners_url)
    where = parts.netloc.rpartition("@")[2]
    password = f":{parts.password}" if parts.password else ""
    return parts._replace(netloc=f"{role}{password}@{where}").geturl()


def _end(server: ServerProcess, number: signal.Signals) -> None:
    process = server.find_process()
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
    deadline = time.monotonic() + _GONE_SECONDS
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.01)
