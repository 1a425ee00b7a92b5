"""Accounts with contacts, written to the database as an import would leave them."""

import asyncpg

from schemas.job_key import JobKey

DEFAULT_ACCOUNT = 1
"""The id of the account that every migrated database has."""


async def make_account(pool: asyncpg.Pool, name: str) -> int:
    """Insert an account and return its id. Raises UniqueViolationError if the name is in use."""
    return await pool.fetchval("insert into accounts (name) values ($1) returning id", name)


async def fill(
    pool: asyncpg.Pool,
    account_id: int,
    contacts: dict[int, dict[int, str]],
    statuses: dict[str, tuple[str, bool]],
) -> None:
    """Insert contacts {id: {field: address}} and statuses {address: (name, is propagated)}.

    The source of a propagated status is any other address.
    """
    held = {address: set() for address in statuses}
    for contact, links in contacts.items():
        for address in links.values():
            held[address].add(contact)
    async with pool.acquire() as connection, connection.transaction():
        await connection.executemany(
            "insert into contacts (account_id, id) values ($1, $2)",
            [(account_id, contact) for contact in contacts],
        )
        ids = {}
        for address, (status, _) in statuses.items():
            ids[address] = await connection.fetchval(
                "insert into email_addresses (account_id, address, match_key, status,"
                " contact_count)"
                " values ($1, $2, $2, $3, $4) returning id",
                account_id,
                address,
                status,
                len(held[address]),
            )
        await connection.executemany(
            "update email_addresses set propagated_from = $2 where account_id = $3 and id = $1",
            [
                (ids[address], next(x for x in ids.values() if x != ids[address]), account_id)
                for address, (_, is_propagated) in statuses.items()
                if is_propagated
            ],
        )
        await connection.executemany(
            "insert into contact_emails (account_id, contact_id, field, address_id)"
            " values ($1, $2, $3, $4)",
            [
                (account_id, contact, field, ids[address])
                for contact, links in contacts.items()
                for field, address in links.items()
            ],
        )


async def statuses_of(pool: asyncpg.Pool, account_id: int) -> dict[str, tuple[str, bool]]:
    """Return {address: (status, is propagated)} as stored."""
    rows = await pool.fetch(
        "select match_key, status, propagated_from from email_addresses where account_id = $1",
        account_id,
    )
    return {row["match_key"]: (row["status"], row["propagated_from"] is not None) for row in rows}


async def fill_large_account(pool: asyncpg.Pool, account_id: int, contacts: int) -> None:
    """Fill an account with contacts of two addresses each, whose statuses depend on their position.

    Every tenth pair is a family: two contacts share their second address.
    """
    async with pool.acquire() as connection, connection.transaction():
        first = 1 + await connection.fetchval(
            "select greatest((select max(id) from contacts),"
            " (select max(id) from email_addresses), 0)"
        )
        await connection.execute(
            "insert into contacts (account_id, id)"
            " select $1, $2 + n from generate_series(0, $3::int - 1) n",
            account_id,
            first,
            contacts,
        )
        await connection.execute(
            "insert into email_addresses (account_id, id, address, match_key, status,"
            " contact_count)"
            " select $1, $2 + n, 'u' || n || '@example.com', 'u' || n || '@example.com',"
            "        (enum_range(null::email_status))[case when n % 3 = 0 then 1 + n / 3 % 17"
            "         else 5 end], case n % 40 when 1 then 2 when 3 then 0 else 1 end"
            " from generate_series(0, 2 * $3::int - 1) n",
            account_id,
            first,
            contacts,
        )
        await connection.execute(
            "insert into contact_emails (account_id, contact_id, field, address_id)"
            " select $1, $2 + n, f, $2 + case when f = 2 and n % 20 = 1 then 2 * n - 1"
            "        else 2 * n + f - 1 end"
            " from generate_series(0, $3::int - 1) n, generate_series(1, 2) f",
            account_id,
            first,
            contacts,
        )
        await connection.execute(
            "select setval(pg_get_serial_sequence('contacts', 'id'), $1),"
            " setval(pg_get_serial_sequence('email_addresses', 'id'), $1)",
            first + 2 * contacts,
        )
    await pool.execute("analyze contacts, email_addresses, contact_emails")


async def account_of(pool: asyncpg.Pool, job_id: int) -> int:
    """Return the id of the job's account."""
    account_id: int = await pool.fetchval("select account_id from jobs where id = $1", job_id)
    return account_id


async def key_of(pool: asyncpg.Pool, job_id: int) -> JobKey:
    """Return the key of the job with this id."""
    return JobKey(await account_of(pool, job_id), job_id)
