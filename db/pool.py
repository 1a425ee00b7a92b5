"""Connections to Postgres."""

import asyncio
import json
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from db.errors import CONNECTION_ERRORS
from db.suitability import PERMISSION_ERRORS, describe_denied
from db.time_limits import IDLE_MS
from runtime.tcp_keepalive import (
    IDLE_SECONDS,
    INTERVAL_SECONDS,
    PROBES,
    USER_TIMEOUT_SECONDS,
    enable_keepalive,
)
from schemas.errors import DatabaseUnreachable, error_text

CONNECT_TIMEOUT_SECONDS = 5.0

WORK_IDLE_SECONDS = IDLE_MS // 1000
"""How long a transaction of a worker may be idle. Transactions on chunks also set this limit."""

WEB_IDLE_SECONDS = 60
"""How long any other transaction may be idle. An import reads its file within one."""


class Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg publishes no types
    """A connection that detects a vanished server. asyncpg's own may wait without limit."""

    __slots__ = ()

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        # The socket itself, also under TLS. uvloop returns a stand-in for it.
        enable_keepalive(transport.get_extra_info("socket"))

    async def copy_records_to_table(self, *arguments: Any, **named: Any) -> Any:
        """Copy as asyncpg does, and also end if the connection is lost while rows are being sent.

        asyncpg would wait for a socket that never becomes writable again.
        """
        protocol = self._protocol

        def wake(_: asyncpg.Connection) -> None:
            protocol.resume_writing()

        self.add_termination_listener(wake)
        try:
            return await super().copy_records_to_table(*arguments, **named)
        except (RuntimeError, AttributeError) as error:
            # uvloop and asyncpg raise these when they write to a lost connection.
            if self.is_closed():
                raise asyncpg.ConnectionDoesNotExistError(
                    "connection was closed in the middle of a COPY"
                ) from error
            raise
        finally:
            self.remove_termination_listener(wake)


_JSONB_CODEC = {"schema": "pg_catalog", "encoder": json.dumps, "decoder": json.loads}


class Pool(asyncpg.Pool):  # type: ignore[misc] # asyncpg publishes no types
    """A pool that serves waiting tasks in their order.

    In asyncpg's own, a task that asks when a connection is just released overtakes all waiting
    ones. Under load some would wait for many seconds, and others hardly at all.
    """

    __slots__ = ("_acquired", "_turns")

    def __init__(self, *arguments: Any, max_size: int, **options: Any) -> None:
        super().__init__(*arguments, max_size=max_size, **options)
        self._turns = asyncio.Semaphore(max_size)
        self._acquired: set[Any] = set()

    @property
    def has_room(self) -> bool:
        """Whether a task gets a connection now without waiting for others."""
        return not self._turns.locked()

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109 - asyncpg's own
        await self._turns.acquire()
        try:
            connection = await super()._acquire(timeout)
        except BaseException:
            self._turns.release()
            raise
        self._acquired.add(connection)
        return connection

    async def release(self, connection: Any, **options: Any) -> None:
        """Release the connection to the next waiting task. A second release changes nothing."""
        was_acquired = connection in self._acquired
        self._acquired.discard(connection)
        try:
            await super().release(connection, **options)
        finally:
            if was_acquired:
                self._turns.release()


async def _skip_reset(_connection: asyncpg.Connection) -> None:
    """Do nothing on release: no session has settings or locks, and a reset is a round trip."""


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", **_JSONB_CODEC)


def connect_options(url: str, *, pgbouncer: bool) -> dict[str, Any]:
    """Return asyncpg's arguments; with `pgbouncer`, no statement stays prepared."""
    options: dict[str, Any] = {
        "connection_class": Connection,
        "dsn": url.replace("postgres://", "postgresql://", 1),
        "timeout": CONNECT_TIMEOUT_SECONDS,
    }
    if pgbouncer:
        options["statement_cache_size"] = 0
    mode = parse_qs(urlsplit(url).query).get("sslmode", [""])[0]
    if mode == "require":
        # Encrypted, not verified: hosted databases present self-signed certificates.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        options["ssl"] = context
    return options


def _session_settings(application: str, idle_seconds: int) -> dict[str, str]:
    """Return the Postgres settings of a session.

    If a worker's host vanishes silently, they end its transaction after 11 seconds instead of two
    hours, which releases its chunk.
    """
    return {
        "application_name": application,
        "tcp_keepalives_idle": str(IDLE_SECONDS),
        "tcp_keepalives_interval": str(INTERVAL_SECONDS),
        "tcp_keepalives_count": str(PROBES),
        "tcp_user_timeout": str(USER_TIMEOUT_SECONDS * 1000),
        "idle_in_transaction_session_timeout": str(idle_seconds * 1000),
    }


async def make_pool(
    url: str,
    *,
    size: int,
    pgbouncer: bool = False,
    application: str = "sluice",
    idle_seconds: int = WORK_IDLE_SECONDS,
) -> asyncpg.Pool:
    """Make a pool of at most `size` connections, each opened when it is first needed.

    Postgres ends a transaction that is idle for `idle_seconds`. PgBouncer rejects such session
    settings: behind it, configure them in PgBouncer and in Postgres.
    """
    options = connect_options(url, pgbouncer=pgbouncer)
    if not pgbouncer:
        options["server_settings"] = _session_settings(application, idle_seconds)
    return await Pool(
        min_size=0,
        max_size=size,
        init=_prepare,
        reset=_skip_reset,
        # A lifetime would close idle connections only to open them again. The platform restarts
        # every dyno daily.
        max_inactive_connection_lifetime=0,
        max_queries=50_000,
        loop=None,
        record_class=asyncpg.Record,
        **options,
    )


async def open_pool(
    url: str, *, size: int, pgbouncer: bool = False, application: str = "sluice"
) -> asyncpg.Pool:
    """Make a pool for a process other than a worker, and open one connection to check it.

    Raises DatabaseUnreachable if no connection opens within a few seconds, and DatabaseUnsuitable
    if the role may not connect.
    """
    pool = await make_pool(
        url, size=size, pgbouncer=pgbouncer, application=application, idle_seconds=WEB_IDLE_SECONDS
    )
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS * 2), pool.acquire():
            return pool
    except CONNECTION_ERRORS as error:
        pool.terminate()
        raise DatabaseUnreachable(describe_unreachable(url, error)) from error
    except PERMISSION_ERRORS as error:
        pool.terminate()
        raise describe_denied(error) from error


def describe_unreachable(url: str, error: BaseException) -> str:
    """Return an error text that names the server and never the password."""
    parts = urlsplit(url)
    where = parts.hostname or parse_qs(parts.query).get("host", ["?"])[0]
    port = f":{parts.port}" if parts.port else ""
    reason = error_text(error) or type(error).__name__
    # PgBouncer's message about the settings of a session.
    if "unsupported startup parameter" in reason:
        advice = "DATABASE_URL leads to a PgBouncer. Set PGBOUNCER=true, then try again."
    elif isinstance(error, asyncpg.InvalidCatalogNameError):
        advice = (
            "Create it (`create database NAME encoding 'UTF8' template template0`), or name in"
            " DATABASE_URL one that exists."
        )
    elif isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        advice = "Check the user and the password in DATABASE_URL, then try again."
    else:
        advice = "Check DATABASE_URL and that the server runs, then try again."
    return f"Postgres at {where}{port} cannot be used: {reason}. Nothing was done. {advice}"
