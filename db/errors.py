"""The driver's errors, grouped by whether they are the fault of the work being done.

Immediate opt-outs, pausing and migrations retry fewer of them, and keep their own lists.

What PgBouncer itself refuses (`server conn crashed?`, `query_wait_timeout`, `no more connections
allowed`) is a protocol violation, 08P01. For asyncpg that is a connection error.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from schemas.errors import ConcurrentLink

CONNECTION_ERRORS: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
)
"""What connecting to Postgres raises when it cannot be used."""

CONTENTION_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.DiskFullError,
)
"""Of those that are not the work's fault, those after which the connection is as good as before."""

TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What asyncpg raises when a connection is cut while it is sending.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    *CONTENTION_ERRORS,
)
"""Failures that say nothing about the chunk: it is tried again without counting an attempt. A
statement that takes too long or too much memory is not among them: a smaller chunk may do."""

_MADE_ONCE = {
    "email_addresses_account_id_match_key_key",
    "contact_emails_pkey",
    "contacts_by_external_id",
}


@contextmanager
def made_once() -> Iterator[None]:
    """Raise ConcurrentLink when another transaction has just made what this one makes."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name not in _MADE_ONCE:
            raise
        raise ConcurrentLink(
            "an address or a contact of the chunk was made by another transaction meanwhile"
        ) from error
