"""What a database has to be, and to allow, so that Sluice can use it."""

import asyncpg

from db.queries import load
from schemas.errors import DatabaseUnsuitable

_sql = load("migrating")

ENCODING = "UTF8"

PERMISSION_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
    # What a role is told that may not use the schema in which it would create tables.
    asyncpg.InvalidSchemaNameError,
)
"""What Postgres raises when the role, or the server, is not to do what is asked."""


async def require_encoding(connection: asyncpg.Connection) -> None:
    """Raise DatabaseUnsuitable unless the database can keep every character.

    Another one would be noticed only by the first import with a name that it cannot keep.
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
    """Convert one of `PERMISSION_ERRORS` into an error for people: what was not allowed, and who
    can allow it.
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
        f"Postgres did not allow what is needed: {error}. Nothing was changed. {advice} Then try"
        " again."
    )
