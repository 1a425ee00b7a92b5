"""The named SQL statements of `sql/*.sql`, each file read once. A file is one subject."""

from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import aiosql
import asyncpg
from aiosql.adapters.asyncpg import AsyncPGAdapter

_SQL = Path(__file__).parent / "sql"


class _ConnectionAdapter(AsyncPGAdapter):
    """Statements are run on the connection that they are given. aiosql's own adapter asks each time
    whether that is a pool, by listing all it can do, which takes longer than sending a statement.
    """

    def _ordered(self, query_name: str, parameters: Any) -> Any:
        return self.maybe_order_params(query_name, parameters)  # type: ignore[no-untyped-call]

    async def select(
        self, conn: asyncpg.Connection, query_name: str, sql: str, parameters: Any, *_: Any
    ) -> AsyncIterator[asyncpg.Record]:
        """Yield the rows of a statement that returns any number of rows."""
        for row in await conn.fetch(sql, *self._ordered(query_name, parameters)):
            yield row

    async def select_one(
        self, conn: asyncpg.Connection, query_name: str, sql: str, parameters: Any, *_: Any
    ) -> asyncpg.Record | None:
        """Return the single row or None, for statements marked `^`."""
        return await conn.fetchrow(sql, *self._ordered(query_name, parameters))

    async def select_value(
        self, conn: asyncpg.Connection, query_name: str, sql: str, parameters: Any
    ) -> Any:
        """Return the first value of the single row or None, for statements marked `$`."""
        return await conn.fetchval(sql, *self._ordered(query_name, parameters))

    async def insert_update_delete(
        self, conn: asyncpg.Connection, query_name: str, sql: str, parameters: Any
    ) -> Any:
        """Return Postgres's command tag, for statements marked `!`."""
        return await conn.execute(sql, *self._ordered(query_name, parameters))


_ADAPTER: Any = _ConnectionAdapter


@cache
def _read(subject: str) -> Any:
    return aiosql.from_path(
        _SQL / f"{subject}.sql", _ADAPTER, mandatory_parameters=False, encoding="utf-8"
    )


class _Statements:
    """Read at the first use: reading every file would take a sixth of a command's start."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __getattr__(self, name: str) -> Any:
        statement = getattr(_read(self._subject), name)
        setattr(self, name, statement)
        return statement


def load(subject: str) -> Any:
    """Return the statements of `sql/<subject>.sql`, each as a coroutine function with its name."""
    return _Statements(subject)
