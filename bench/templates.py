"""Databases to measure on: each list is made once, and every run has a fresh copy."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import redis

from bench import lists
from db.migrate import migrate
from db.pool import connect_options, open_pool
from producers.accounts import create_account
from runtime.devservers.embedded import ServerUrls
from runtime.settings import Settings

LIST = "list"
"""The account whose contacts are measured."""

WARM = "warm"
"""The account for the jobs that contenders do before the measurement."""

_CONNECTIONS = 3


class Template(NamedTuple):
    """A database with a list. The ids of contacts are consecutive from the first one."""

    name: str
    contacts: int
    account_id: int
    first: int
    warm_account_id: int
    warm_first: int

    @property
    def warm_contacts(self) -> int:
        """Return the number of contacts of the account that is used before a measurement."""
        return min(5_000, max(1, self.contacts // 10))


class Copy(NamedTuple):
    """The database of one run. `settings` lead to it, with their own queue namespace."""

    template: Template
    url: str
    settings: Settings
    pool: asyncpg.Pool


class Templates:
    """Makes the lists and their copies on these servers."""

    def __init__(self, servers: ServerUrls, log: Callable[[str], None]) -> None:
        self.servers = servers
        self.log = log
        self._templates: dict[int, Template] = {}
        self._names: list[str] = []

    async def _get(self, contacts: int) -> Template:
        if contacts not in self._templates:
            self.log(f"making the list of {contacts:,} contacts")
            name = f"sluice_bench_{os.getpid()}_{contacts}"
            await self._execute(f"create database {name}")
            self._names.append(name)
            self._templates[contacts] = await self._fill(name, contacts)
        return self._templates[contacts]

    async def _fill(self, name: str, contacts: int) -> Template:
        url = self._url(name)
        await migrate(url)
        async with await open_pool(url, size=_CONNECTIONS) as pool:
            ids = [await create_account(pool, account) for account in (LIST, WARM)]
            template = Template(name, contacts, ids[0], 0, ids[1], 0)
            # Statistics of empty tables would make the planner expect empty tables.
            if not contacts:
                return template
            first = await lists.fill(pool, ids[0], contacts, mixed=True)
            warm_first = await lists.fill(pool, ids[1], template.warm_contacts, mixed=True)
            await pool.execute("vacuum (analyze)")
            return template._replace(first=first, warm_first=warm_first)

    @asynccontextmanager
    async def copy(self, contacts: int) -> AsyncIterator[Copy]:
        """Make a copy of the list right after a checkpoint, and drop it afterwards.

        A run then writes whole pages to the log when it first changes them: the costlier case.
        """
        template = await self._get(contacts)
        name = f"sluice_bench_{os.getpid()}_{uuid4().hex[:8]}"
        namespace = name.replace("_", "-")
        await self._execute(f"create database {name} template {template.name} strategy file_copy")
        try:
            settings = Settings(
                database_url=self._url(name),
                redis_url=self.servers.redis_url,
                queue_namespace=namespace,
            )
            async with await open_pool(self._url(name), size=_CONNECTIONS) as pool:
                await checkpoint(pool)
                yield Copy(template, self._url(name), settings, pool)
        finally:
            await self._drop(name)
            with redis.Redis.from_url(self.servers.redis_url) as client:
                for key in client.scan_iter(f"*{namespace}*", count=1000):
                    client.delete(key)

    async def close(self) -> None:
        """Drop the lists."""
        self._templates.clear()
        while self._names:
            await self._drop(self._names.pop())

    async def _drop(self, name: str) -> None:
        await self._execute(f"drop database if exists {name} with (force)")

    def _url(self, name: str) -> str:
        return urlsplit(self.servers.database_url)._replace(path=f"/{name}").geturl()

    async def _execute(self, statement: str) -> None:
        url = self.servers.database_url
        connection = await asyncpg.connect(**connect_options(url, pgbouncer=True))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def checkpoint(pool: asyncpg.Pool) -> None:
    """Write all changes to disk, if the role may request a checkpoint."""
    try:
        await pool.execute("checkpoint")
    except asyncpg.InsufficientPrivilegeError:
        return
