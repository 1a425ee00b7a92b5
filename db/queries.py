"""Load the named SQL statements of `sql/*.sql`. Each file has one subject."""

from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import aiosql
import asyncpg
from aiosql.adapters.asyncpg import AsyncPGAdapter

_SQL = Path(__file__).parent / "sql"


class _ConnectionAdapter(AsyncPGAdapter):
    """Runs each statement on the given connection.

    For each statement, aiosql's own adapter checks whether it has a pool instead. It lists all
    attributes for this, which takes longer than sending the statement.
    """

    def _ordered(self, query_name: str, parameters: Any) -> Any:
        return self.maybe_order_params(query_name, parameters)  # type: ignore[no-untyped-call]

    async def select(
        self, conn: asyncpg.Connection, query_name: str, sql: str, parameters: Any, *_: Any
    ) -> AsyncIterator[asyncpg.Record]:
        """Yield the rows of a statement without a mark."""
        for row in await conn.fetch(sql, *self._ordered(query_name, parameters)):
            yield row

    async def select_one(
        self, conn: asyncpg.Connection, query_name: str, sql: str, parameters: Any, *_: Any
    ) -> asyncpg.Record | None:
        """Return the first row, or None if there is none, of a statement marked `^`."""
        return await conn.fetchrow(sql, *self._ordered(query_name, parameters))

    async def select_value(
        self, conn: asyncpg.Connection, query_name: str, sql: str, parameters: Any
    ) -> Any:
        """Return the first value of the first row, or None, of a statement marked `$`."""
        return await conn.fetchval(sql, *self._ordered(query_name, parameters))

    async def insert_update_delete(
        self, conn: asyncpg.Connection, query_name: str, sql: str, parameters: Any
    ) -> Any:
        """Return Postgres's command tag, such as `UPDATE 3`, of a statement marked `!`."""
        return await conn.execute(sql, *self._ordered(query_name, parameters))


_ADAPTER: Any = _ConnectionAdapter


@cache
def _read(subject: str) -> Any:
    return aiosql.from_path(
        _SQL / f"{subject}.sql", _ADAPTER, mandatory_parameters=False, encoding="utf-8"
    )


_subjects: list[str] = []


class _Statements:
    """Statements that are read at their first use.

    Reading every file would take a sixth of the time in which a command starts.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        _subjects.append(subject)

    def __getattr__(self, name: str) -> Any:
        statement = getattr(_read(self._subject), name)
        setattr(self, name, statement)
        return statement


def load(subject: str) -> Any:
    """Return the statements of `sql/<subject>.sql`: a function for each, with its name."""
    return _Statements(subject)


def preload() -> None:
    """Read the statements of every module that is imported.

    A process that goes on must not meet the files of a later version at their first use.
    """
    for subject in _subjects:
        _read(subject)
