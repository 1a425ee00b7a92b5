"""Databases to measure on: each list is made once, and every run has a fresh copy of it."""

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
"""The account whose contacts the contenders do a job on before anything is measured."""

_CONNECTIONS = 3


class Template(NamedTuple):
    """A database with a list, which nobody works on. `first` is its first contact's id; the others
    follow without a gap.
    """

    name: str
    contacts: int
    account_id: int
    warm_account_id: int
    first: int


class Copy(NamedTuple):
    """A database of one run. `settings` lead to it, and have a queue namespace of its own."""

    template: Template
    url: str
    settings: Settings
    pool: asyncpg.Pool


class Templates:
    """Makes the lists and their copies on these servers."""

    def __init__(self, servers: ServerUrls, say: Callable[[str], None]) -> None:
        self._servers = servers
        self._say = say
        self._made: dict[int, Template] = {}

    async def of(self, contacts: int) -> Template:
        """A list of so many contacts; it is made when it is first asked for."""
        if contacts not in self._made:
            self._say(f"making the list of {contacts:,} contacts")
            self._made[contacts] = await self._make(contacts)
        return self._made[contacts]

    async def _make(self, contacts: int) -> Template:
        name = f"sluice_bench_{os.getpid()}_{contacts}"
        await _execute(self._servers, f"create database {name}")
        try:
            url = self._url(name)
            await migrate(url)
            async with await open_pool(url, size=_CONNECTIONS) as pool:
                account_id = await create_account(pool, LIST)
                warm_account_id = await create_account(pool, WARM)
                if not contacts:
                    # As migrated: statistics of empty tables would say that they stay empty.
                    return Template(name, 0, account_id, warm_account_id, 0)
                first = await lists.fill_mixed(pool, account_id, contacts)
                await lists.fill_mixed(pool, warm_account_id, warm_contacts(contacts))
                await pool.execute("vacuum (analyze)")
        except BaseException:
            await self._drop(name)
            raise
        return Template(name, contacts, account_id, warm_account_id, first)

    @asynccontextmanager
    async def copy(self, template: Template) -> AsyncIterator[Copy]:
        """A fresh copy, right after a checkpoint; it is dropped afterwards.

        What a run first touches of a page it writes whole to the log, then: the dearer case.
        """
        name = f"sluice_bench_{os.getpid()}_{uuid4().hex[:8]}"
        namespace = name.replace("_", "-")
        await _execute(
            self._servers, f"create database {name} template {template.name} strategy file_copy"
        )
        try:
            settings = Settings(
                database_url=self._url(name),
                redis_url=self._servers.redis_url,
                queue_namespace=namespace,
            )
            async with await open_pool(self._url(name), size=_CONNECTIONS) as pool:
                await checkpoint(pool)
                yield Copy(template, self._url(name), settings, pool)
        finally:
            await self._drop(name)
            with redis.Redis.from_url(self._servers.redis_url) as client:
                for key in client.scan_iter(f"*{namespace}*", count=1000):
                    client.delete(key)

    async def close(self) -> None:
        """Drop what was made."""
        while self._made:
            _, template = self._made.popitem()
            await self._drop(template.name)

    async def _drop(self, name: str) -> None:
        await _execute(self._servers, f"drop database if exists {name} with (force)")

    def _url(self, name: str) -> str:
        return urlsplit(self._servers.database_url)._replace(path=f"/{name}").geturl()


def warm_contacts(contacts: int) -> int:
    """How many contacts of another account are worked on before a list of so many."""
    return min(5_000, max(1, contacts // 10))


async def checkpoint(pool: asyncpg.Pool) -> None:
    """Have everything written that was changed so far, where the role may ask for it."""
    try:
        await pool.execute("checkpoint")
    except asyncpg.InsufficientPrivilegeError:
        return


@asynccontextmanager
async def making_templates(
    servers: ServerUrls, say: Callable[[str], None]
) -> AsyncIterator[Templates]:
    """Lists and copies for as long as the context lasts."""
    templates = Templates(servers, say)
    try:
        yield templates
    finally:
        await templates.close()


async def _execute(servers: ServerUrls, statement: str) -> None:
    connection = await asyncpg.connect(**connect_options(servers.database_url, pgbouncer=True))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
