"""No hot statement reads the whole of a large table, whichever plan Postgres chooses.

A hot statement is one run by a chunk, a worker, the sweeper, a submitter or a reader. It finds its
rows by an index whose condition names more than the account. If a job may be large, the condition
also names more than the job. A session may plan a prepared statement for its actual values, or once
for all values. Both plans are checked: for a whole chunk and for one contact, for the first page
and for a later one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from db import chunk_addresses, import_chunks, queries
from db.pool import open_pool
from schemas.job_key import JobKey
from schemas.recognition import RecognitionResult
from tests.conftest import NewDatabase
from tests.kit import query_plans
from tests.kit.hot_queries import EXEMPT, EXEMPT_FILES, HOT, ORDER_OF_PAGE, WHOLE_IMPORT
from tests.kit.large_database import (
    ACCOUNT,
    CHUNK,
    IMPORT,
    NO_RESULTS_YET,
    OPT_OUT,
    fill,
)
from tests.kit.query_arguments import FIRST_PAGE, LATER_PAGE, SPECIAL, arguments
from tests.kit.query_plans import Index, Plan


@pytest.fixture(scope="module")
async def connection(new_database: NewDatabase) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection to a large database; each test rolls back what it changes.

    Random reads are priced as on the embedded servers. With the default cost of 4, which is meant
    for disks that seek, Postgres would read tables of this size whole.
    """
    async with (
        new_database() as url,
        await open_pool(url, size=1) as pool,
        pool.acquire() as connection,
    ):
        await fill(connection)
        await connection.execute("set random_page_cost = 1.1")
        yield connection


@pytest.fixture(scope="module")
async def indexes(connection: asyncpg.Connection) -> dict[str, Index]:
    """Return the indexes of the database by name."""
    return await query_plans.indexes(connection)


def hot_statements() -> list[tuple[str, str]]:
    """Return (subject, statement) of each statement that must never read a whole table."""
    return [(subject, name) for subject, names in HOT.items() for name in names.split()]


async def all_plans(
    connection: asyncpg.Connection, subject: str, name: str, *special: dict[str, Any]
) -> list[Plan]:
    """Return the generic plan, and the custom plans for a chunk and for one contact."""
    statement = query_plans.statement(subject, name)
    all_overrides = special or SPECIAL.get(name, ({},))
    return [
        await query_plans.generic_plan(connection, statement),
        *[
            await query_plans.custom_plan(
                connection, statement, arguments(subject, size) | overrides
            )
            for size, overrides in product((1, CHUNK), all_overrides)
        ],
    ]


def test_each_statement_is_hot_or_exempt():
    """A new statement must be listed as hot, or as exempt with a reason."""
    folder = Path(queries.__file__).parent / "sql"
    subjects = {path.stem for path in folder.glob("*.sql")} - EXEMPT_FILES.keys()
    stated = {
        f"{subject}.{name}" for subject in subjects for name in query_plans.statement_names(subject)
    }
    classified = [f"{subject}.{name}" for subject, name in hot_statements()] + list(EXEMPT)
    assert sorted(stated) == sorted(classified)
    assert WHOLE_IMPORT.keys() | SPECIAL.keys() <= {name for _, name in hot_statements()}


@pytest.mark.parametrize(("subject", "name"), hot_statements())
async def test_a_hot_statement_reads_only_what_it_needs(connection, indexes, subject, name):
    """No plan of a hot statement reads a whole table, account or large job, even in a subquery."""
    for plan in await all_plans(connection, subject, name):
        assert not query_plans.find_excessive_reads(plan, indexes, whole_job=name in WHOLE_IMPORT)


async def test_a_listed_selection_reads_only_the_list(connection, indexes):
    """Planning a job over listed contacts reads no other contacts of the account. Only a custom
    plan knows which branch of the statement applies; a generic plan would look as costly as a whole
    account.
    """
    statement = query_plans.statement("planning", "freeze_selection")
    for overrides in ({}, {"statuses": ["admin"]}):
        plan = await query_plans.custom_plan(
            connection, statement, arguments("planning", 1) | overrides
        )
        assert not query_plans.find_excessive_reads(plan, indexes, whole_job=False)


@pytest.mark.parametrize("name", ORDER_OF_PAGE)
@pytest.mark.parametrize("job_id", [OPT_OUT, NO_RESULTS_YET, IMPORT])
async def test_a_page_is_read_in_its_order(connection, name, job_id):
    """An index delivers the first page and later ones in the page's order, so a page of millions
    costs only what it returns. This holds even if the planner has no statistics on the job.
    """
    assert not await find_unordered_plans(connection, name, job_id)


@pytest.mark.parametrize(
    ("name", "index"), [(name, index) for name, order in ORDER_OF_PAGE.items() for index in order]
)
async def test_a_page_out_of_order_is_found(connection, name, index):
    """The check above can fail: without its index, a page is reported."""
    async with rolled_back(connection):
        await drop_index(connection, index)
        assert await find_unordered_plans(connection, name, OPT_OUT)


async def find_unordered_plans(connection: asyncpg.Connection, name: str, job_id: int) -> list[Any]:
    """Return the plans of a first and a later page that do not read the page's index."""
    statement, order = query_plans.statement("exports", name), ORDER_OF_PAGE[name]
    plans = [(await query_plans.generic_plan(connection, statement), list(order))]
    for cursor, size, rejected in product((FIRST_PAGE, LATER_PAGE), (1, CHUNK), range(len(order))):
        overrides = {**cursor, "job_id": job_id, "rejected": bool(rejected)}
        plan = await query_plans.custom_plan(
            connection, statement, arguments("exports", size) | overrides
        )
        plans.append((plan, [order[rejected]]))
    found = []
    for plan, indexes in plans:
        fed_by = query_plans.nodes_below_limit(plan)
        by = [node["Index Name"] for node in fed_by if "Index Name" in node]
        # An incremental sort keeps the order of the index, and a sort of an empty result costs
        # nothing.
        sorts = [
            node
            for node in fed_by
            if node["Node Type"] == "Sort"
            and any("Relation Name" in below for below in query_plans.nodes(node))
        ]
        if sorts or by != indexes:
            found.append(fed_by)
    return found


@asynccontextmanager
async def rolled_back(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Open a transaction that is rolled back at the end."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def drop_index(connection: asyncpg.Connection, index: str) -> None:
    """Drop the index, together with its constraint if it has one."""
    table = await connection.fetchval(
        "select conrelid::regclass::text from pg_constraint"
        " where conindid = $1::regclass and contype in ('p', 'u')",
        index,
    )
    await connection.execute(
        f"alter table {table} drop constraint {index}" if table else f"drop index {index}"
    )


async def test_a_history_looks_up_only_what_it_returns(connection):
    """The results of one address, thousands for a role address, are found by its index and sorted.
    Only for the returned rows are jobs, sources and errors looked up.
    """
    for plan in await all_plans(connection, "address_history", "list_history"):
        tables = {
            n["Relation Name"] for n in query_plans.nodes_below_limit(plan) if "Relation Name" in n
        }
        assert tables == {"results"}


@pytest.mark.parametrize(
    ("index", "subject", "name"),
    [
        ("results_of_address", "address_history", "list_history"),
        ("contact_emails_of_address", "chunk_addresses", "read_siblings"),
        ("contact_emails_of_address", "address_history", "list_contacts"),
        ("jobs_unfinished", "sweeps", "list_running_jobs"),
    ],
)
async def test_a_missing_index_is_found(connection, indexes, index, subject, name):
    """The check of hot statements can fail: without its index, each plan is reported."""
    async with rolled_back(connection):
        await drop_index(connection, index)
        for plan in await all_plans(connection, subject, name):
            assert query_plans.find_excessive_reads(plan, indexes, whole_job=False)


async def test_triggers_read_only_what_they_need(connection):
    """The triggers and foreign keys of a chunk's writes, which plans do not show, read no whole
    table. The last lines show that the test would notice one.
    """
    async with rolled_back(connection):
        before = await count_whole_reads(connection)
        await write_as_chunks(connection)
        assert await count_whole_reads(connection) == before
        await connection.execute("select count(family_name) from contacts")
        assert await count_whole_reads(connection) == before | {"contacts": before["contacts"] + 1}


async def write_as_chunks(connection: asyncpg.Connection) -> None:
    """Create contacts as a chunk of an import does, and opt addresses out with propagation."""
    import_arguments = arguments("import_chunks", CHUNK)
    known = await import_chunks.lock_known_addresses(
        connection,
        JobKey(ACCOUNT, IMPORT),
        item_ids=import_arguments["item_ids"],
        role_address_limit=10,
        max_contacts=1_000,
    )
    created = await import_chunks.create_contacts(
        connection,
        JobKey(ACCOUNT, IMPORT),
        item_ids=import_arguments["item_ids"],
        known=known,
        recognized=RecognitionResult(),
        initial_status="non_marketable",
        initial_statuses_by_stated={},
        tag="tag7",
    )
    assert len(created.links) == 2 * CHUNK
    read = await chunk_addresses.read_addresses(connection, ACCOUNT, list(range(1, 1_001)))
    assert await chunk_addresses.update_addresses(
        connection,
        JobKey(ACCOUNT, OPT_OUT),
        decided_at=read.decided_at,
        changes={
            id_: (status, "admin", None if id_ % 2 else id_ - 1)
            for id_, status in zip(read.ids, read.statuses, strict=True)
        },
        versions=dict(zip(read.ids, read.versions, strict=True)),
    )


async def count_whole_reads(connection: asyncpg.Connection) -> dict[str, int]:
    """Count the sequential scans of this transaction by table."""
    rows = await connection.fetch("select relname, seq_scan from pg_stat_xact_user_tables")
    return {
        row["relname"]: row["seq_scan"]
        for row in rows
        if row["relname"] not in query_plans.SMALL_TABLES
    }
