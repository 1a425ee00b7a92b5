"""Connections to Postgres."""

import asyncio
import json
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from db.failures import UNREACHABLE
from schemas.errors import DatabaseUnreachable

CONNECT_SECONDS = 5.0

_SIGNS_OF_LIFE = {
    # Where the host of a worker vanishes without a word, Postgres gives up its transaction, and so
    # its chunk, after about a minute, and not after the two hours that are usual.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "60000",
}

type_codecs = {"schema": "pg_catalog", "encoder": json.dumps, "decoder": json.loads}


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", **type_codecs)


def connect_options(url: str, *, pgbouncer: bool) -> dict[str, Any]:
    """Arguments for asyncpg. Behind PgBouncer no statement outlives its transaction."""
    options: dict[str, Any] = {
        "dsn": url.replace("postgres://", "postgresql://", 1),
        "timeout": CONNECT_SECONDS,
        "command_timeout": None,
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


async def make_pool(
    url: str, *, size: int, pgbouncer: bool = False, application: str = "sluice"
) -> asyncpg.Pool:
    """A pool of at most `size` connections, each made when it is first needed."""
    options = connect_options(url, pgbouncer=pgbouncer)
    if not pgbouncer:
        options["server_settings"] = {"application_name": application, **_SIGNS_OF_LIFE}
    return await asyncpg.create_pool(
        min_size=0,
        max_size=size,
        init=_prepare,
        # A lifetime would close connections in long idle phases only to open them again; the
        # platform restarts every dyno daily anyway.
        max_inactive_connection_lifetime=0,
        **options,
    )


async def open_pool(
    url: str, *, size: int, pgbouncer: bool = False, application: str = "sluice"
) -> asyncpg.Pool:
    """A pool as `make_pool` makes it, proven by one connection.

    Raises DatabaseUnreachable when none can be had within a few seconds.
    """
    pool = await make_pool(url, size=size, pgbouncer=pgbouncer, application=application)
    try:
        async with asyncio.timeout(CONNECT_SECONDS * 2), pool.acquire():
            return pool
    except UNREACHABLE as error:
        pool.terminate()
        raise DatabaseUnreachable(unreachable_text(url, error)) from error


def unreachable_text(url: str, error: BaseException) -> str:
    """A sentence for people that names the server, and never the password."""
    parts = urlsplit(url)
    where = parts.hostname or parse_qs(parts.query).get("host", ["?"])[0]
    port = f":{parts.port}" if parts.port else ""
    reason = str(error) or type(error).__name__
    return (
        f"Postgres at {where}{port} cannot be used: {reason}. Nothing was done."
        " Check DATABASE_URL and that the server runs, then try again."
    )
