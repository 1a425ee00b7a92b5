"""A reference to a contact or an address stays within one account (decision 0015)."""

import asyncpg
import pytest

from tests.kit.factories import fill, make_account

ADDRESS = "select id from email_addresses where address = '{}'"
MINE, SPREAD, THEIRS = (
    ADDRESS.format(f"{name}@example.com") for name in ("mine", "spread", "theirs")
)
MY_ACCOUNT = "select id from accounts where name = 'mine'"

REFUSED = {
    "a link to another account's address": f"insert into contact_emails values"
    f" (({MY_ACCOUNT}), 1, 3, ({THEIRS}))",
    "a link of another account's contact": f"insert into contact_emails values"
    f" (({MY_ACCOUNT}), 7, 3, ({MINE}))",
    "a link that moves to another account's address": f"update contact_emails set address_id ="
    f" ({THEIRS}) where contact_id = 1 and field = 1",
    "a source of another account": f"update email_addresses set propagated_from = ({THEIRS})"
    f" where id = ({SPREAD})",
    "a new address with a source of another account": f"insert into email_addresses"
    f" (account_id, address, match_key, status, propagated_from)"
    f" values (({MY_ACCOUNT}), 'x', 'x', 'admin', ({THEIRS}))",
    "many new addresses, one with a source of another account": f"insert into email_addresses"
    f" (account_id, address, match_key, status, propagated_from)"
    f" select ({MY_ACCOUNT}), n::text, n::text, 'admin',"
    f" case when n < 50 then ({MINE}) else ({THEIRS}) end from generate_series(1, 50) n",
    "the removal of a contact that holds an address": "delete from contacts where id = 1",
    "the removal of an address that is held": f"delete from email_addresses where id = ({MINE})",
    "another id for a contact that holds an address": "update contacts set id = 99 where id = 1",
    "another id for a source": f"update email_addresses set id = 99999 where id = ({MINE})",
    "the removal of all addresses": "truncate email_addresses",
    "the removal of all contacts": "truncate contacts, contact_tags",
}


@pytest.fixture
async def two_accounts(pool: asyncpg.Pool) -> None:
    """Create two accounts, so that each row has a row of another account to refer to wrongly."""
    mine = await make_account(pool, "mine")
    theirs = await make_account(pool, "theirs")
    await fill(
        pool,
        mine,
        {1: {1: "mine@example.com", 2: "spread@example.com"}},
        {"mine@example.com": ("admin", False), "spread@example.com": ("admin", True)},
    )
    await fill(
        pool, theirs, {7: {1: "theirs@example.com"}}, {"theirs@example.com": ("admin", False)}
    )


@pytest.mark.usefixtures("two_accounts")
@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
async def test_the_database_rejects_what_foreign_keys_would(
    pool: asyncpg.Pool, statement: str
) -> None:
    """Any statement that breaks a reference fails as a whole, with a foreign key violation."""
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await pool.execute(statement)


@pytest.mark.usefixtures("two_accounts")
async def test_copied_links_are_checked_too(pool: asyncpg.Pool) -> None:
    """A COPY fails as a whole if one of its links leads to another account."""
    mine = await pool.fetchval(MY_ACCOUNT)
    rows = [(mine, 1, 3, await pool.fetchval(MINE)), (mine, 1, 2, await pool.fetchval(THEIRS))]
    async with pool.acquire() as connection:
        await connection.execute("delete from contact_emails where contact_id = 1 and field = 2")
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.copy_records_to_table("contact_emails", records=rows)
    assert await pool.fetchval("select count(*) from contact_emails where contact_id = 1") == 1


@pytest.mark.usefixtures("two_accounts")
async def test_unreferenced_rows_can_be_deleted(pool: asyncpg.Pool) -> None:
    """Links can be deleted first, then contacts and addresses; a propagated address before its
    source.
    """
    for statement in (
        "delete from contact_emails where contact_id = 1",
        "delete from contacts where id = 1",
        f"delete from email_addresses where id = ({SPREAD})",
        f"delete from email_addresses where id = ({MINE})",
    ):
        assert await pool.execute(statement) != "DELETE 0"


FILL = (
    "insert into contacts (account_id, id) select $1, n from generate_series($2::int, $3) n",
    """insert into email_addresses (account_id, id, address, match_key, status)
       select $1, n, n::text, n::text, 'non_marketable' from generate_series($2::int, $3) n""",
    "insert into contact_emails select $1, n, 1, n from generate_series($2::int, $3) n",
)


async def test_links_are_looked_up_by_key_after_the_tables_grow(pool: asyncpg.Pool) -> None:
    """A session first checks a few links while the tables are almost empty. For many later links it
    still looks up each end once by key, instead of comparing all with all.
    """
    count = 3_000
    account_id = await make_account(pool, "growing")
    await pool.execute("analyze contacts, email_addresses, contact_emails")
    async with pool.acquire() as connection:
        for first, last in ((1, 7), (8, count)):
            for statement in FILL:
                await connection.execute(statement, account_id, first, last)
        await connection.execute("select pg_stat_force_next_flush()")
        read = await connection.fetchval(
            "select sum(idx_tup_read) from pg_stat_user_indexes"
            " where relname in ('contacts', 'email_addresses')"
        )
    assert count < read < 4 * count


async def test_links_of_a_new_account_are_looked_up_by_key(pool: asyncpg.Pool) -> None:
    """If the statistics cover only another account, the new one seems empty. Each end of its links
    is still looked up by key, and not compared with all contacts of the account.
    """
    count = 3_000
    known = await make_account(pool, "known")
    account_id = await make_account(pool, "new")
    async with pool.acquire() as connection:
        for statement in FILL:
            await connection.execute(statement, known, 1, count)
        await connection.execute("analyze contacts, email_addresses, contact_emails")
        before = await _count_index_scans(connection)
        for statement in FILL:
            await connection.execute(statement, account_id, count + 1, 2 * count)
        assert await _count_index_scans(connection) - before >= 2 * count


async def _count_index_scans(connection: asyncpg.Connection) -> int:
    await connection.execute("select pg_stat_force_next_flush()")
    scans: int = await connection.fetchval(
        "select sum(idx_scan)::bigint from pg_stat_user_indexes"
        " where relname in ('contacts', 'email_addresses')"
    )
    return scans
