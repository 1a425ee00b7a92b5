"""A web process, started as the Procfile starts it.

Chaos runs, benchmarks and acceptance tests all start theirs here.
"""

import asyncio
import json
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import httpx

from db.pool import open_pool
from producers.keys import Scope, create_key
from runtime.settings import Settings
from tests.kit.waiting import wait_for
from tests.kit.worker_group import ROOT, WorkerGroup

_START_SECONDS = 120.0


def unused_port() -> int:
    """Return an unused port of this machine."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


class WebGroup(WorkerGroup):
    """One `web` dyno: `python -m web` in a process group of its own, with its log in a file."""

    module = "web"

    def __init__(
        self,
        settings: Settings,
        log: Path,
        *,
        code: Path = ROOT,
        popen: Callable[..., Any] = subprocess.Popen,
        **environment: str,
    ) -> None:
        assert settings.signing_keys is not None
        self.port = int(environment.get("PORT") or unused_port())
        own = {"SIGNING_KEYS": settings.signing_keys.get_secret_value(), "PORT": str(self.port)}
        super().__init__(settings, log, code=code, popen=popen, **own | environment)

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.port}"

    def worker_ids(self) -> list[int]:
        """Return the id of its only process."""
        return [self.process.pid]

    def client(self, **options: Any) -> httpx.Client:
        """Return an HTTP client for it; `headers` may contain an API key."""
        return httpx.Client(base_url=self.url, timeout=40, **options)

    def serving(self) -> Self:
        """Wait until it answers. Raises RuntimeError if it does not."""
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
        """Return the lines of its log, each of which must be JSON."""
        return [json.loads(line) for line in self.lines()]

    def list_statuses(self, route: str, *, after: int = 0) -> list[int]:
        """Return the statuses of the route's requests that were logged after this many lines."""
        events = self.events()[after:]
        return [event["http_status"] for event in events if event.get("route") == route]


def create_key_headers(settings: Settings) -> dict[str, str]:
    """Create an API key of the account `default` with all scopes; return its request header."""

    async def create() -> str:
        async with await open_pool(settings.database_url or "", size=1) as pool:
            key = await create_key(pool, account="default", name="test", scopes=list(Scope))
            return key.secret

    return {"Authorization": f"Bearer {asyncio.run(create())}"}
