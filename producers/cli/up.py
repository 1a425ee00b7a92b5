"""`sluice up`: servers, migrations, workers and the way in over HTTP in one terminal."""

import asyncio
import re
import socket
import sys
from contextlib import closing

import typer

from db.migrate import migrate
from producers.cli.context import require_queue
from producers.cli.procfile_run import run_procfile
from producers.cli.rendering import say
from runtime.embedded import DEFAULT_DIRECTORY, settings_with_servers
from runtime.settings import Settings, environment_of_processes
from runtime.signing_key import kept_signing_key
from schemas.errors import SluiceError


def up() -> None:
    """Run embedded servers and the Procfile's processes here, until Ctrl-C.

    With DATABASE_URL and REDIS_URL set, those servers are used instead.
    """
    given = Settings()
    with settings_with_servers(given) as settings:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        require_queue(settings)
        port = free_port(settings)
        key = settings.signing_key or kept_signing_key(DEFAULT_DIRECTORY)
        _, revision = asyncio.run(migrate(settings.database_url))
        say(f"Postgres  {without_password(settings.database_url)}  (revision {revision})")
        say(f"Redis     {without_password(settings.redis_url)}")
        say(f"HTTP      http://{settings.listens_on}:{port}  (`sluice keys create NAME` for a key)")
        if given.wants_embedded_servers:
            say("Commands in this folder use the same servers: try `sluice jobs`.")
        say("Ctrl-C stops everything.")
        more = {"PORT": str(port), "SIGNING_KEY": key.get_secret_value()}
        if settings.log_format is None and sys.stdout.isatty():
            # The processes write to a pipe, and so would take it that nobody is watching.
            more["LOG_FORMAT"] = "console"
        asked = run_procfile(environment_of_processes(settings, **more))
    if not asked:
        raise typer.Exit(1)


def free_port(settings: Settings) -> int:
    """The port of the settings; where nobody asked for it and it is taken, another one."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.listens_on, settings.port))
        except OSError:
            if "port" in settings.model_fields_set:
                raise SluiceError(
                    f"Port {settings.port} of {settings.listens_on} cannot be used; nothing was"
                    " started. Set PORT to one that is free, or leave it unset."
                ) from None
            probe.bind((settings.listens_on, 0))
        port: int = probe.getsockname()[1]
        return port


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1@", re.sub(r"(password=)[^&]*", r"\1...", url))
