"""Where the measurements take place: servers and a database of their own, gone afterwards."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import redis

from db.migrate import migrate
from db.pool import connect_options
from runtime.devservers.embedded import ServerUrls, embedded_servers
from runtime.settings import Settings


class Place(NamedTuple):
    """Servers to use, and a folder for files; `embedded` when nobody else uses the servers."""

    servers: ServerUrls
    folder: Path
    embedded: bool


@contextmanager
def place_to_measure() -> Iterator[Place]:
    """The servers of DATABASE_URL and REDIS_URL, or embedded ones that write through to disk."""
    given = Settings()
    with tempfile.TemporaryDirectory(
        prefix="sluice-bench-", ignore_cleanup_errors=True
    ) as folder_name:
        folder = Path(folder_name)
        if not given.uses_embedded_servers:
            given.require_urls()
            assert given.database_url is not None
            assert given.redis_url is not None
            yield Place(ServerUrls(given.database_url, given.redis_url), folder, embedded=False)
            return
        # The servers' own account has to get through to its files.
        folder.chmod(0o711)
        with embedded_servers(folder / "servers", durable=True) as servers:
            yield Place(servers, folder, embedded=True)


@asynccontextmanager
async def fresh_settings(place: Place) -> AsyncIterator[Settings]:
    """Settings for a migrated database and a queue namespace that are dropped afterwards."""
    name = f"sluice_bench_{os.getpid()}_{uuid4().hex[:8]}"
    await _execute(place.servers, f"create database {name}")
    try:
        url = urlsplit(place.servers.database_url)._replace(path=f"/{name}").geturl()
        await migrate(url)
        yield Settings(
            database_url=url,
            redis_url=place.servers.redis_url,
            queue_namespace=name.replace("_", "-"),
        )
    finally:
        await _execute(place.servers, f"drop database {name} with (force)")
        with redis.Redis.from_url(place.servers.redis_url) as client:
            for key in client.scan_iter(f"{name.replace('_', '-')}*", count=1000):
                client.delete(key)


async def _execute(servers: ServerUrls, statement: str) -> None:
    connection = await asyncpg.connect(**connect_options(servers.database_url, pgbouncer=True))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
