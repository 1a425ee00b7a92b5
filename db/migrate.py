"""Migrate a database to this version of Sluice, and check which version it has."""

import asyncio
import random
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from db.deployment import SET_MIN_CODE_REVISION, min_code_revision
from db.errors import CONNECTION_ERRORS
from db.pool import connect_options, describe_unreachable
from db.queries import load
from db.suitability import PERMISSION_ERRORS, describe_denied, require_encoding
from schemas.errors import DatabaseUnreachable, MigrationLockTimeout, SchemaMismatch

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection

_sql = load("migrating")
_MIGRATIONS = Path(__file__).parent / "migrations"

MIGRATE_TIMEOUT_SECONDS = 120.0
"""How long a migration is retried. Workers and web processes go on meanwhile and use the tables."""

_CONTENTION_ERRORS = (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


def known_revisions() -> list[str]:
    """Return the revisions that this version knows, oldest first. File names begin with them."""
    names = (path.name for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    return sorted(name.partition("_")[0] for name in names)


def latest_revision() -> str:
    """Return the newest revision that this version of Sluice knows."""
    return known_revisions()[-1]


async def migrate(url: str) -> tuple[str | None, str]:
    """Migrate the database to `latest_revision`; return the revision before and after.

    Each migration is a transaction of its own, so that none locks what another one needs. Of two
    concurrent calls, the second waits and finds nothing to do. A migration that waits too long for
    a table begins again. If a newer Sluice migrated the database, it stays as it is.

    Raises DatabaseUnreachable, DatabaseUnsuitable, MigrationLockTimeout, and SchemaMismatch if the
    newer revision does not suit this version.
    """
    try:
        connection = await asyncpg.connect(**connect_options(url, pgbouncer=True))
        try:
            before = await _read_revision(connection)
        finally:
            await connection.close()
        if before is not None and not _is_behind(before):
            return before, before
        await _upgrade_with_retries(url)
    except CONNECTION_ERRORS as error:
        raise DatabaseUnreachable(describe_unreachable(url, error)) from error
    except PERMISSION_ERRORS as error:
        raise describe_denied(error) from error
    return before, latest_revision()


async def require_current(connection: asyncpg.Connection) -> None:
    """Raise SchemaMismatch unless the database has this version's revision or a suitable newer one.

    Raises DatabaseUnsuitable if it cannot be used at any revision.
    """
    try:
        revision = await _read_revision(connection)
    except PERMISSION_ERRORS as error:
        raise describe_denied(error) from error
    if _is_behind(revision):
        raise SchemaMismatch(
            f"The database is at revision {revision or 'none'}, and this Sluice needs"
            f" {latest_revision()}. Nothing was done. Run `sluice migrate` first."
        )


async def _read_revision(connection: asyncpg.Connection) -> str | None:
    """Return the database's revision. A newer one must have stored that it suits this version.

    Processes of the version before still run while a release migrates. Raises SchemaMismatch, and
    DatabaseUnsuitable for a wrong encoding.
    """
    await require_encoding(connection)
    try:
        revision: str | None = await connection.fetchval("select version_num from alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    known = known_revisions()
    if revision in (None, *known) or await min_code_revision(connection) in known:
        return revision
    raise SchemaMismatch(
        f"The database was migrated to revision {revision} by a newer Sluice, and does not suit"
        f" this one, which knows revisions up to {latest_revision()}. Nothing was done. Deploy"
        " the newer version again."
    )


def _is_behind(revision: str | None) -> bool:
    return revision != latest_revision() and revision in (None, *known_revisions())


async def _upgrade_with_retries(url: str) -> None:
    ends = time.monotonic() + MIGRATE_TIMEOUT_SECONDS
    while True:
        try:
            return await _upgrade(url)
        except _CONTENTION_ERRORS as error:
            if time.monotonic() > ends:
                raise MigrationLockTimeout(
                    "The database could not be migrated within"
                    f" {MIGRATE_TIMEOUT_SECONDS:.0f} seconds: its tables are in use. The migration"
                    " that waited changed nothing. End long reports and dumps, or wait for them,"
                    " then run `sluice migrate` again."
                ) from error
        await asyncio.sleep(random.uniform(0.5, 1.5))


async def _upgrade(url: str) -> None:
    # Only a migration needs these. They take a third of a second and 20 MB.
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    connect = partial(asyncpg.connect, **connect_options(url, pgbouncer=True))
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            is_behind = True
            while is_behind:
                async with connection.begin():
                    await connection.exec_driver_sql(_sql.lock_migrations.sql)
                    is_behind = await connection.run_sync(_run_next)
    except DBAPIError as error:
        # asyncpg's error is the innermost cause.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise cause from error
    finally:
        await engine.dispose()


def _run_next(connection: "Connection") -> bool:
    """Run the next migration, if there is one; return whether the database is still behind."""
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    revision = MigrationContext.configure(connection).get_current_revision()
    # Another migration may have come first, even one of a newer version.
    if not _is_behind(revision):
        return False
    known = known_revisions()
    revision = known[known.index(revision) + 1 if revision else 0]
    command.upgrade(config, revision)
    oldest = oldest_supported(ScriptDirectory.from_config(config), revision)
    connection.exec_driver_sql(SET_MIN_CODE_REVISION, (oldest,))
    return revision != latest_revision()


def oldest_supported(scripts: "ScriptDirectory", revision: str) -> str:
    """Return the oldest revision of code that this revision of the database suits.

    It is stored in the database, since code of that age does not have the newer migrations.
    """
    for script in scripts.walk_revisions(head=revision):
        if not script.module.supports_older_code:
            break
    return str(script.revision)
