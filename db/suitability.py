"""Tell whether Sluice can use a database: its encoding, and what the role may do."""

import asyncpg

from db.queries import load
from schemas.errors import DatabaseUnsuitable

_sql = load("migrating")

ENCODING = "UTF8"

PERMISSION_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
    # Raised if the role may not use the schema in which it would create tables.
    asyncpg.InvalidSchemaNameError,
)
"""What Postgres raises if it does not allow a statement to the role, or on a read-only server."""


async def require_encoding(connection: asyncpg.Connection) -> None:
    """Raise DatabaseUnsuitable unless the database can store every character.

    Otherwise, the first import with a name that it cannot store would fail.
    """
    row = await _sql.encoding(connection)
    if row["encoding"] != ENCODING:
        name = row["database"]
        raise DatabaseUnsuitable(
            f"The database {name} keeps text as {row['encoding']}, and Sluice needs {ENCODING}."
            " Nothing was done. Create another one (`create database NAME encoding 'UTF8' template"
            " template0`), set DATABASE_URL to it, and run `sluice migrate`."
        )


def describe_denied(error: BaseException) -> DatabaseUnsuitable:
    """Return an error that says what was not allowed, and who can allow it.

    `error` is one of `PERMISSION_ERRORS`.
    """
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        advice = (
            "Set DATABASE_URL to the primary server, or switch default_transaction_read_only off"
            " for the role and the database."
        )
    else:
        advice = (
            "Grant it to the role of DATABASE_URL, or use a role that owns the database (`alter"
            " database NAME owner to ROLE`) and its tables."
        )
    return DatabaseUnsuitable(
        f"Postgres did not allow a statement: {error}. Nothing was changed. {advice} Then try"
        " again."
    )
