"""A run of the benchmark, with a cleanup however it ends."""

import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uvloop
from rich.console import Console

from bench.machine import describe
from bench.samples import Samples, Session
from bench.templates import Copy, Templates
from runtime import logs
from runtime.devservers.embedded import ServerUrls, embedded_servers
from runtime.settings import Settings
from schemas.errors import SluiceError
from tests.kit.interruption import INTERRUPTED, exit_on_signals


class Sizes(NamedTuple):
    """The numbers of contacts of the lists, and the extent of the other measurements."""

    huge: int = 10_000_000
    large: int = 1_000_000
    middle: int = 100_000
    small: int = 10_000
    tiny: int = 2_000
    rounds: int = 5
    passes: int = 3
    import_rows: int = 100_000
    small_jobs: int = 40
    http_opt_outs: int = 2_000
    seconds: int = 8

    @classmethod
    def quick(cls, contacts: int) -> "Sizes":
        """Return sizes for a quick look, with lists of at most this number of contacts."""
        capped = {name: min(contacts, size) for name, size in cls()._asdict().items()}
        less = {"rounds": 1, "passes": 1, "small_jobs": 10, "http_opt_outs": 300, "seconds": 3}
        return cls(**capped | {"tiny": max(1, contacts // 10)} | less)


class Environment(NamedTuple):
    """The environment of every measurement: lists, a folder for files, and the samples."""

    templates: Templates
    folder: Path
    sizes: Sizes
    samples: Samples
    log: Callable[[str], None]

    def copy(self, list_name: str) -> AbstractAsyncContextManager[Copy]:
        """Make a copy of the list with this name in `sizes`."""
        return self.templates.copy(getattr(self.sizes, list_name))


Measure = Callable[[Environment], Awaitable[None]]


def run_session(measure: Measure, sizes: Sizes, console: Console) -> Session:
    """Measure, and remove everything afterwards. Exit with a sentence if nothing was measured."""
    try:
        with exit_on_signals(), _servers() as (servers, folder):
            templates = Templates(servers, console.log)
            environment = Environment(templates, folder, sizes, Samples(), console.log)
            return uvloop.run(_run(measure, environment))
    except KeyboardInterrupt:
        console.print("Interrupted. Everything was stopped and removed. No figures were kept.")
        sys.exit(INTERRUPTED)
    except SluiceError as error:
        console.print(str(error), markup=False, highlight=False)
        sys.exit(error.exit_code)


async def _run(measure: Measure, environment: Environment) -> Session:
    # Warnings about a contender's work would appear between the figures.
    logs.configure(Settings().model_copy(update={"log_level": "error"}))
    try:
        machine = await describe(environment.templates.servers)
        taken_at = datetime.now(UTC).isoformat(timespec="seconds")
        await measure(environment)
        return Session(taken_at, machine, environment.sizes._asdict(), environment.samples)
    finally:
        await environment.templates.close()


@contextmanager
def _servers() -> Iterator[tuple[ServerUrls, Path]]:
    """Yield the servers of DATABASE_URL and REDIS_URL, or embedded ones that write to disk."""
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if not settings.uses_embedded_servers:
            settings.require_urls()
            yield ServerUrls(settings.database_url or "", settings.redis_url or ""), folder
            return
        # The servers run as another user, who needs access to their files.
        folder.chmod(0o711)
        with embedded_servers(folder / "servers", durable=True) as servers:
            yield servers, folder
