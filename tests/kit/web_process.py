"""A web process, started as the Procfile starts it.

The storm, the measurements and the acceptance tests all start theirs here.
"""

import json
import socket
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import httpx

from runtime.settings import Settings
from tests.kit.worker_group import ROOT, WorkerGroup, wait_for

_START_SECONDS = 120.0


def unused_port() -> int:
    """A port of this machine that nobody listens on now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


class WebGroup(WorkerGroup):
    """One `web` dyno: `python -m web` in a process group of its own, log in a file."""

    module = "web"

    def __init__(
        self, settings: Settings, log: Path, *, code: Path = ROOT, **environment: str
    ) -> None:
        assert settings.signing_keys is not None
        self.port = int(environment.get("PORT") or unused_port())
        own = {"SIGNING_KEYS": settings.signing_keys.get_secret_value(), "PORT": str(self.port)}
        super().__init__(settings, log, code=code, **own | environment)

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def worker_ids(self) -> list[int]:
        """Its own id: one that serves alone is its group's only process."""
        return [self.process.pid]

    def client(self, **options: Any) -> httpx.Client:
        """A client of it; `headers` may have a key."""
        return httpx.Client(base_url=self.url, timeout=40, **options)

    def serving(self) -> Self:
        """Wait until it answers; raises RuntimeError."""
        if not wait_for(self._answers, _START_SECONDS):
            raise RuntimeError(f"The web process does not answer. Its log:\n{self.log.read_text()}")
        return self

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"The web process has ended. Its log:\n{self.log.read_text()}")
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz").is_success
        return False

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log, each of which has to be JSON."""
        return [json.loads(line) for line in self.lines()]
