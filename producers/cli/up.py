"""`sluice up`: servers, migrations and workers in one terminal."""

import asyncio
import re
import sys

import typer

from db.migrate import migrate
from producers.cli.context import require_queue
from producers.cli.procfile_run import run_procfile
from producers.cli.rendering import say
from runtime.embedded import settings_with_servers
from runtime.settings import Settings, environment_of_processes


def up() -> None:
    """Run embedded servers and the Procfile's processes here, until Ctrl-C.

    With DATABASE_URL and REDIS_URL set, those servers are used instead.
    """
    given = Settings()
    with settings_with_servers(given) as settings:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        require_queue(settings)
        _, revision = asyncio.run(migrate(settings.database_url))
        say(f"Postgres  {without_password(settings.database_url)}  (revision {revision})")
        say(f"Redis     {without_password(settings.redis_url)}")
        if given.wants_embedded_servers:
            say("Commands in this folder use the same servers: try `sluice jobs`.")
        say("Ctrl-C stops everything.")
        more = {}
        if settings.log_format is None and sys.stdout.isatty():
            # The processes write to a pipe, and so would take it that nobody is watching.
            more["LOG_FORMAT"] = "console"
        asked = run_procfile(environment_of_processes(settings, **more))
    if not asked:
        raise typer.Exit(1)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1@", re.sub(r"(password=)[^&]*", r"\1...", url))
