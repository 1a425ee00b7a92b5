"""Groups of the driver's errors: on opening a connection, with a usable connection, and transient.

Immediate opt-outs, pauses and migrations retry fewer of them, and keep lists of their own.

PgBouncer's own errors (`server conn crashed?`, `query_wait_timeout`, `no more connections allowed`)
are protocol violations, 08P01, which asyncpg raises as connection errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from schemas.errors import ConcurrentLink

_NO_CONNECTION_ERRORS: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)

CONNECTION_ERRORS: tuple[type[BaseException], ...] = (
    *_NO_CONNECTION_ERRORS,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""The errors of opening a connection to Postgres."""

CONNECTION_USABLE_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.DiskFullError,
)
"""The transient errors that leave the connection usable: Postgres answers, so it is no outage."""

TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    *_NO_CONNECTION_ERRORS,
    # For a connection that is cut while asyncpg sends.
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    *CONNECTION_USABLE_ERRORS,
)
"""Errors that no chunk causes: it is retried, and no attempt is counted. A statement that takes too
long or too much memory is not one of them, since a smaller chunk may succeed."""

_CONCURRENT_INSERTS = {
    "email_addresses_account_id_match_key_key",
    "contact_emails_pkey",
    "contacts_by_external_id",
}


@contextmanager
def detect_concurrent_insert() -> Iterator[None]:
    """Raise ConcurrentLink if another transaction has inserted the same row in the meantime."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name not in _CONCURRENT_INSERTS:
            raise
        raise ConcurrentLink(
            "another transaction has inserted an address or a contact of the chunk"
        ) from error
