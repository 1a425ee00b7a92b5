"""`sluice up`: servers, migrations, workers and the way in over HTTP in one terminal."""

import asyncio
import re
import socket
import sys
from contextlib import closing

import typer

from cli.context import require_queue
from cli.owner import bring_up_to_date
from cli.rendering import say
from runtime.devservers.extra import DEFAULT_DIRECTORY, settings_with_servers
from runtime.devservers.procfile import PROCFILE, require_runner, run_procfile
from runtime.devservers.signing_key import kept_signing_key
from runtime.settings import Settings, environment_of_processes
from schemas.errors import SluiceError

_HTTP_PAGE = PROCFILE.with_name("docs") / "http.md"
WHERE_HTTP_IS_EXPLAINED = (
    f"{_HTTP_PAGE if _HTTP_PAGE.is_file() else 'docs/http.md'} explains each call with an example."
)


def up() -> None:
    """Run embedded servers and the Procfile's processes here, until Ctrl-C.

    With DATABASE_URL and REDIS_URL set, those servers are used instead.
    """
    require_runner()
    given = Settings()
    with settings_with_servers(given) as settings:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        require_queue(settings)
        port = free_port(settings)
        key = settings.signing_keys or kept_signing_key(DEFAULT_DIRECTORY)
        _, revision = asyncio.run(bring_up_to_date(settings))
        say(f"Postgres  {without_password(settings.database_url)}  (revision {revision})")
        say(f"Redis     {without_password(settings.redis_url)}")
        url = f"http://{_host(settings.listens_on)}:{port}"
        taken = "" if port == settings.port else f"  ({settings.port} is in use)"
        say(f"HTTP      {url}{taken}")
        say(f"OpenAPI   {url}/openapi.json")
        say(f"\n{WHERE_HTTP_IS_EXPLAINED} `sluice keys create NAME` makes an API key.")
        if given.wants_embedded_servers:
            say("Commands in this folder use these servers: try `sluice jobs` in another terminal.")
        say("Ctrl-C stops everything.")
        more = {"PORT": str(port), "SIGNING_KEYS": key.get_secret_value()}
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
                    f"Cannot listen on {_host(settings.listens_on)}:{settings.port}. Nothing was"
                    " started. Set PORT to a port that is free, or leave it unset."
                ) from None
            probe.bind((settings.listens_on, 0))
        port: int = probe.getsockname()[1]
        return port


def _host(host: str) -> str:
    """The host as a URL has it."""
    return f"[{host}]" if ":" in host else host


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1@", re.sub(r"(password=)[^&]*", r"\1...", url))
