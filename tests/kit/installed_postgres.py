"""A Postgres of a version installed on the machine, for a run of the tests."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.devservers.account import (
    allow_traversal,
    choose_server_account,
    make_owned_directory,
)
from runtime.devservers.postgres import postgres_url
from runtime.devservers.process import SERVER_ENVIRONMENT, ServerProcess, run_as

_SETTINGS = {
    "listen_addresses": "",
    # Several tests run in parallel, each with its own workers; no data needs to survive.
    "max_connections": "400",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
}


@contextmanager
def running_postgres(programs: Path, folder: Path) -> Iterator[str]:
    """Run the server with these programs in the folder, and yield its URL.

    Raises CalledProcessError if the data directory cannot be created, ServerStartError if the
    server does not start.
    """
    data, sockets = folder / "data", folder / "sockets"
    owner = choose_server_account(data)
    make_owned_directory(data, owner)
    make_owned_directory(sockets, owner)
    allow_traversal(data, owner)
    subprocess.run(
        [
            *(str(programs / "initdb"), f"--pgdata={data}", "--username=postgres"),
            *("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        ],
        cwd="/",
        env=SERVER_ENVIRONMENT,
        capture_output=True,
        check=True,
        **run_as(owner),
    )
    settings = _SETTINGS | {"unix_socket_directories": str(sockets)}
    pid_file = data / "postmaster.pid"
    server = ServerProcess(
        name="Postgres",
        argv=(
            *(str(programs / "postgres"), "-D", str(data)),
            *(f"--{name}={value}" for name, value in settings.items()),
        ),
        directory=data,
        pid_file=pid_file,
        ready=lambda: pid_file.read_text(encoding="utf-8").rstrip().endswith("\nready"),
        log=folder / "postgres.log",
        stop_signals=(signal.SIGINT, signal.SIGQUIT),
    )
    try:
        server.start(owner)
        yield postgres_url(sockets)
    finally:
        server.stop()
