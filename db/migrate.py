"""Bringing a database to this version of Sluice, and telling when it is at another."""

from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from db.failures import UNREACHABLE
from db.pool import connect_options, unreachable_text
from schemas.errors import DatabaseUnreachable, SchemaMismatch


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def head() -> str:
    """The newest revision that this version of Sluice knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


async def migrate(url: str) -> tuple[str | None, str]:
    """Bring the database to `head`; gives the revision before and after.

    Two at once are safe: the second waits and finds nothing to do. Raises DatabaseUnreachable,
    and SchemaMismatch for a database that a newer Sluice has migrated.
    """

    async def connect() -> Any:
        return await asyncpg.connect(**connect_options(url, pgbouncer=True))

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(
                "select pg_advisory_xact_lock(hashtext('sluice migration'))"
            )
            before = await connection.run_sync(_current)
            _require_known(before)
            await connection.run_sync(_upgrade)
    except UNREACHABLE as error:
        raise DatabaseUnreachable(unreachable_text(url, error)) from error
    finally:
        await engine.dispose()
    return before, head()


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    exists = connection.exec_driver_sql("select to_regclass('alembic_version')").scalar()
    if exists is None:
        return None
    version: str | None = connection.exec_driver_sql(
        "select version_num from alembic_version"
    ).scalar()
    return version


def _require_known(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaMismatch(
            f"The database was migrated to revision {revision} by a newer Sluice; this one knows"
            f" revisions up to {head()}. Nothing was done. Deploy the newer version again."
        )


async def require_current(connection: asyncpg.Connection) -> None:
    """Raise SchemaMismatch unless the database is at exactly this version's revision."""
    try:
        revision = await connection.fetchval("select version_num from alembic_version")
    except asyncpg.UndefinedTableError:
        revision = None
    _require_known(revision)
    if revision != head():
        raise SchemaMismatch(
            f"The database is at revision {revision or 'none'}, and this Sluice needs {head()}."
            " Nothing was done. Run `sluice migrate` first."
        )
