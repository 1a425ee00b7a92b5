"""The machine, programs and settings that the figures depend on."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import redis

from bench.lists import sql
from db.pool import open_pool
from runtime.devservers.embedded import ServerUrls
from runtime.settings import Settings

_LIBRARIES = ("asyncpg", "dramatiq", "redis", "uvloop", "pydantic")
_QUIET_SECONDS = 2.0


async def describe(servers: ServerUrls) -> dict[str, Any]:
    """Return names and values. `commit` is None outside a repository."""
    others = psutil.cpu_percent(_QUIET_SECONDS)
    async with (
        await open_pool(servers.database_url, size=1) as pool,
        pool.acquire() as connection,
    ):
        rows = sql.server_settings(connection)
        postgres = {row["name"]: row["value"] async for row in rows}
    with redis.Redis.from_url(servers.redis_url) as client:
        server: Any = client.info("server")
    queue_version = server.get("valkey_version") or server["redis_version"]
    settings = Settings()
    return {
        "commit": _output("git", "rev-parse", "HEAD"),
        "changes": bool(_output("git", "status", "--porcelain", "--untracked-files=no")),
        "processors": f"{os.cpu_count()} ({_output('sh', '-c', _CPU_MODEL) or platform.machine()})",
        "other programs, %": others,
        "memory": f"{psutil.virtual_memory().total // 2**20:,} MB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Postgres": postgres.pop("server_version"),
        "queue server": f"{server.get('server_name', 'redis')} {queue_version}",
        "threads of a worker process": settings.worker_threads,
        "contacts of a chunk": settings.chunk_size,
        **{name: version(name) for name in _LIBRARIES},
        **postgres,
    }


_CPU_MODEL = "sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1"


def _output(*command: str) -> str | None:
    with suppress(OSError, subprocess.CalledProcessError):
        folder = Path(__file__).parent
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    return None
