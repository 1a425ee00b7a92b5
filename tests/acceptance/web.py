"""The web processes of the acceptance tests are those of the storm, with clients of theirs."""

import json
from contextlib import suppress
from typing import Any, Self

import httpx

from chaos import web_process
from chaos.web_process import unused_port
from tests.conditions import wait_until

__all__ = ["WebGroup", "unused_port"]


class WebGroup(web_process.WebGroup):
    """A `web` dyno that a test asks."""

    def client(self, **options: Any) -> httpx.Client:
        """A client of it; `headers` may have a key."""
        return httpx.Client(base_url=self.url, timeout=40, **options)

    def serving(self) -> Self:
        """Wait until it answers."""
        wait_until(self._answers, deadline_seconds=30, what="the web process answers")
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz").is_success
        return False

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log, each of which has to be JSON."""
        return [json.loads(line) for line in self.lines()]
