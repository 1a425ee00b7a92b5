"""A web process that is measured, started as the Procfile starts it, and the client of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from bench.watching import cpu_seconds
from runtime.settings import Settings
from schemas.errors import SluiceError
from tests.kit.web_process import WebGroup
from tests.kit.worker_group import ROOT

_KEY = SecretStr("for-measurements-and-for-nothing-else")
_NO_LIMIT = "1000000"
"""Requests a second: the limit for each key is not what is measured."""


class ClientFailed(SluiceError):
    """What was asked over HTTP was not answered as it should have been."""


class Web(NamedTuple):
    """A web process that answers, by its id, and the client process that asks it."""

    process: int
    client: subprocess.Popen[str]

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Have the client measure something; gives what it says, and the processor time that the
        web process took meanwhile. Raises ClientFailed.
        """
        assert self.client.stdin is not None
        assert self.client.stdout is not None
        before = cpu_seconds([self.process])
        self.client.stdin.write(json.dumps({"what": what, **more}) + "\n")
        self.client.stdin.flush()
        line = self.client.stdout.readline()
        if not line:
            raise ClientFailed(f"What was to be measured over HTTP failed ({what}). Look above.")
        said: dict[str, Any] = json.loads(line)
        return said | {"web_seconds": round(cpu_seconds([self.process]) - before, 3)}


@contextmanager
def running_web(settings: Settings, log: Path) -> Iterator[Web]:
    """One web process with these settings, and its client; both have ended when the context has."""
    keyed = settings.model_copy(update={"signing_keys": _KEY})
    with (
        WebGroup(keyed, log, REQUESTS_PER_SECOND=_NO_LIMIT, LOG_FORMAT="json") as group,
        subprocess.Popen(
            [sys.executable, "-m", "bench.web_client", str(group.serving().port)],
            cwd=ROOT,
            env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as client,
    ):
        try:
            yield Web(group.process.pid, client)
        finally:
            client.kill()
