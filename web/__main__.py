"""`python -m web`: a web process, as the Procfile starts it."""

import socket
import sys
from contextlib import suppress
from functools import partial

import uvicorn
from uvicorn.supervisors import Multiprocess

from runtime import logs
from runtime.process import log_startup_failure, process_name
from runtime.program import expand_program_name
from runtime.settings import Settings
from schemas.errors import SettingsError, SluiceError
from web.connection_monitor import ConnectionLimits
from web.server_protocol import Connection
from web.shutdown import SHUTDOWN_SECONDS

BACKLOG = 2048
"""How many connections the system keeps until they are accepted."""


def main() -> int:
    """Serve until told to end; print why and return 1 if the process cannot start."""
    try:
        settings = Settings()
        settings.require_urls()
        settings.require_signing_keys()
        listening = _listen(settings)
    except SluiceError as error:
        log_startup_failure(error, "web", status=1)
        sys.stderr.write(f"{expand_program_name(str(error))}\n")
        return 1
    logs.configure(settings, web=process_name(settings))
    config = _config(settings)
    with listening, suppress(KeyboardInterrupt):
        if settings.web_processes > 1:
            Multiprocess(config, sockets=[listening]).run()
            return 0
        server = uvicorn.Server(config)
        server.run(sockets=[listening])
        return 0 if server.started else 1
    return 0


def _listen(settings: Settings) -> socket.socket:
    """Return the socket that all processes share; raise SettingsError if it cannot be bound."""
    host, port = settings.listen_host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {f'[{host}]' if ':' in host else host}:{port}: {error.strerror}."
            " Nothing was started. Stop the program that uses it, or set PORT (and HOST) to a free"
            " address."
        ) from error
    listening.set_inheritable(True)
    return listening


def _config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        "web.app:create_app",
        factory=True,
        workers=settings.web_processes,
        loop="uvloop",
        http=partial(Connection, limits=ConnectionLimits.from_settings(settings)),  # type: ignore[arg-type]
        ws="none",
        # Its lines have paths, which contain addresses and tokens.
        access_log=False,
        log_config=None,
        server_header=False,
        # `web.peers` reads X-Forwarded-For itself.
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    sys.exit(main())
