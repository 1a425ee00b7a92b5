"""A web process, started as the Procfile starts it."""

import socket
from contextlib import closing
from pathlib import Path

from chaos.worker_group import ROOT, WorkerGroup
from runtime.settings import Settings


def unused_port() -> int:
    """A port of this machine that nobody listens on now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


class WebGroup(WorkerGroup):
    """One `web` dyno: `python -m producers.http` in a process group of its own, log in a file."""

    module = "producers.http"

    def __init__(
        self, settings: Settings, log: Path, *, code: Path = ROOT, **environment: str
    ) -> None:
        assert settings.signing_key is not None
        self.port = int(environment.get("PORT") or unused_port())
        own = {"SIGNING_KEY": settings.signing_key.get_secret_value(), "PORT": str(self.port)}
        super().__init__(settings, log, code=code, **own | environment)

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def worker_ids(self) -> list[int]:
        """Its own id: one that serves alone is its group's only process."""
        return [self.process.pid]
