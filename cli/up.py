"""`sluice up`: servers, migrations, workers and the web process in one terminal."""

import asyncio
import re
import socket
import sys
from contextlib import closing

import typer

from cli.context import configure_logs, require_redis
from cli.rendering import print_text
from cli.table_owner import migrate_database
from runtime.devservers.extra import DEFAULT_DIRECTORY, settings_with_servers
from runtime.devservers.procfile import PROCFILE, require_honcho, run_procfile
from runtime.devservers.signing_key import load_or_create_signing_key
from runtime.settings import Settings, child_environment
from schemas.errors import SluiceError

_HTTP_PAGE = PROCFILE.with_name("docs") / "http.md"
HTTP_DOCS_HINT = (
    f"{_HTTP_PAGE if _HTTP_PAGE.is_file() else 'docs/http.md'} explains each call with an example."
)


def up() -> None:
    """Run embedded servers and the processes of the Procfile here, until Ctrl-C.

    With DATABASE_URL and REDIS_URL set, those servers are used instead.
    """
    require_honcho()
    given = Settings()
    configure_logs(given)
    with settings_with_servers(given) as settings:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        require_redis(settings)
        port = find_port(settings)
        key = settings.signing_keys or load_or_create_signing_key(DEFAULT_DIRECTORY)
        _, revision = asyncio.run(migrate_database(settings))
        print_text(f"Postgres  {redact_password(settings.database_url)}  (revision {revision})")
        print_text(f"Redis     {redact_password(settings.redis_url)}")
        url = f"http://{_host(settings.listen_host)}:{port}"
        taken = "" if port == settings.port else f"  ({settings.port} is in use)"
        print_text(f"HTTP      {url}{taken}")
        print_text(f"OpenAPI   {url}/openapi.json")
        print_text(f"\n{HTTP_DOCS_HINT} `sluice keys create NAME` creates an API key.")
        if given.uses_embedded_servers:
            print_text(
                "Commands in this folder use these servers: try `sluice jobs` in another terminal."
            )
        print_text("Ctrl-C stops everything.")
        environment = {"PORT": str(port), "SIGNING_KEYS": key.get_secret_value()}
        if settings.log_format is None and sys.stdout.isatty():
            # The processes write to a pipe, so they do not see the terminal themselves.
            environment["LOG_FORMAT"] = "console"
        was_requested = run_procfile(child_environment(settings, **environment))
    if not was_requested:
        raise typer.Exit(1)


def find_port(settings: Settings) -> int:
    """Return the port of the settings, or a free one if it is in use and was not set.

    Raises SluiceError.
    """
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.listen_host, settings.port))
        except OSError:
            if "port" in settings.model_fields_set:
                raise SluiceError(
                    f"Cannot listen on {_host(settings.listen_host)}:{settings.port}. Nothing was"
                    " started. Set PORT to a port that is free, or leave it unset."
                ) from None
            probe.bind((settings.listen_host, 0))
        port: int = probe.getsockname()[1]
        return port


def _host(host: str) -> str:
    """Return the host as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


def redact_password(url: str) -> str:
    """Return the URL without its password."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1@", re.sub(r"(password=)[^&]*", r"\1...", url))
