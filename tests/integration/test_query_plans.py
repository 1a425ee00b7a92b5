"""No hot statement ever reads a whole large table, whichever plan Postgres takes for it.

A hot statement is run by a chunk, a worker, the sweeper, a submitter or a reader. It finds its rows
by an index whose condition names more than the account, and more than the job where a job may be
large. A session may plan a prepared statement for the values at hand or once for all; both plans
are looked at, for a whole chunk and for one contact, for the first page and for a later one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from db import chunk_addresses, import_chunks, queries
from db.pool import open_pool
from schemas.recognition import RecognitionResult
from schemas.requests import MAX_ID
from schemas.statuses import Status
from tests.conftest import NewDatabase
from tests.kit import query_plans
from tests.kit.large_database import (
    ACCOUNT,
    CHUNK,
    CONTACTS_OF_LARGEST,
    FIRST_ROW,
    IMPORT,
    NO_RESULTS_YET,
    OPT_OUT,
    ROLE_ADDRESS,
    fill,
)
from tests.kit.query_plans import Index, Plan

HOT = {
    "accounts": "get_account_id create_account list_accounts",
    "activity": "record list_activity_of_account list_activity_of_job",
    "address_history": (
        "import_rejections_by_reason count_recognized_rows get_address list_contacts"
        " count_contacts list_history"
    ),
    "address_lists": (
        "read_list_rows look_up_listed find_known_keys insert_listed delete_listed"
        " reject_listed freeze_list"
    ),
    "chunk_addresses": (
        "read_links read_links_and_addresses find_existing_contacts read_siblings"
        " read_addresses lock_addresses find_with_opted_out_sibling update_alike update_each"
    ),
    "chunks": (
        "lock_job_shared lock_job_exclusive claim_next_chunk claim_chunk_by_number"
        " count_attempt uncount_attempt record_current_chunk terminate_overlong_chunks"
        " finish_chunk insert_done_chunk lock_failed_chunk postpone_chunk lock_chunk_numbers"
        " split_chunk"
    ),
    "contacts": "get_tag_id tag_exists list_tags find_contact_ids read_contacts",
    "exports": (
        "results_page results_scanned_to unprocessed_page unprocessed_lines_page"
        " unprocessed_addresses_page rejections_page"
    ),
    "forecasting": "join_by_hash plan_for_values last_chunk count_slice",
    "hooks": "insert_hook get_hook rotate_hook_secret account_of_hook",
    "immediate_opt_outs": "set_idle_timeout insert_completed_job",
    "import_chunks": (
        "lock_known_addresses read_rows_to_recognize find_candidates insert_contacts"
        " insert_links add_contact_counts update_contacts insert_recognized_rows"
        " read_stated_statuses person_counts_by_the_end lock_repeated_role_addresses"
        " count_contacts_of_role_addresses find_missed_propagation insert_contact_tags"
        " delete_rows insert_tags reject_row read_row_fields count_rejected_rows"
    ),
    "imports": "set_request_hash read_staged_file",
    "job_progress": (
        "get_job_to_work mark_started refresh_counts has_pending_chunks complete_job fail_job"
        " has_only_rejections get_state read_job_counts read_job_progress"
    ),
    "jobs": (
        "insert_job list_jobs_by_key insert_merged_events account_of_job get_job list_jobs"
        " list_jobs_of_account oldest_scanned_job_of_account oldest_scanned_job"
        " set_lock_timeout terminate_chunks set_state cancel"
    ),
    "keys": "get_key is_active record_use account_of_key",
    "lanes": (
        "insert_lanes queue_idle_lanes hold_lane holds_lane touch_lane release_lane"
        " recover_lane requeue_stalled_lanes"
    ),
    "links": "get_linked_address",
    "planning": (
        "try_plan job_to_plan freeze_import insert_repeats close_plan store_forecast"
        " confirm_plan request_confirmation"
    ),
    "queue_stats": "read_queue_loads count_due_deliveries",
    "results": "insert_few find_earlier_decisions",
    "sweeps": (
        "ping try_sweep try_begin_queue_stats list_stalled_plans requeue_plan"
        " list_running_jobs get_worker_absence try_report_absence try_report_return"
        " get_suggestion store_suggestion"
    ),
    "webhook_deliveries": (
        "insert_delivery get_secret_source store_secret_source has_due list_due claim_due"
        " mark_delivered mark_failed mark_abandoned get_delivery"
    ),
}
"""The guarded statements of each file in `db/sql`."""

EXEMPT = {
    "activity.list_activity": "at the command line, some rows of each account by index",
    "forecasting.is_large": "asks the catalog, and goes over the chunks of a plan once",
    "forecasting.count_shared": "counts a whole selection, once for a plan",
    "forecasting.count_propagated": "counts a whole selection, once for a plan",
    "forecasting.count_missing": "counts a whole selection, once for a plan",
    "forecasting.count_listed": "counts a whole list, once for a plan",
    "forecasting.count_propagated_by_list": "counts a whole list, once for a plan",
    "planning.freeze_selection": "selects a whole account; a list of ids is guarded below",
    "contacts.count_addresses": "counts a whole account, and only where that is asked for",
    "contacts.count_addresses_of_tag": "counts all with a tag, and only where that is asked for",
    "contacts.count_addresses_of_import": "counts a whole import, and only where that is asked for",
    "hooks.list_active_hooks": "seldom, where somebody guesses; hooks are few",
    "hooks.list_hooks": "at the command line; hooks are few",
    "hooks.revoke_hook": "at the command line, one row",
    "keys.insert_key": "at the command line, one row",
    "keys.list_active_digests": "seldom, where somebody guesses; keys are few",
    "keys.list_keys": "at the command line; keys are few",
    "keys.revoke_key": "at the command line, one row",
    "webhook_deliveries.list_secret_sources": "at the command line; accounts are few",
}

EXEMPT_FILES = {
    "deployment": "a table of one row",
    "grants": "reads the catalog, at the command line",
    "invariants": "`sluice verify` proves something of all rows, and so reads them",
    "migrating": "reads no table",
    "uploads": "reads what its own transaction has staged, and looks each up once at most",
}

WHOLE_IMPORT = {
    "freeze_list": "once for a job, over all the addresses that it lists",
    "insert_tags": "once for an import, over all its rows",
    "freeze_import": "once for an import, over all its rows",
    "insert_repeats": "once for an import, over all its rows",
    "lock_repeated_role_addresses": "at an import's end, over the addresses that it repeats",
    "count_contacts_of_role_addresses": "at an import's end, over the addresses that it repeats",
    "find_missed_propagation": "at an import's end, over the addresses that it repeats",
    "count_rejected_rows": "counts what was left out of a file",
    "import_rejections_by_reason": "counts what was left out of a file",
    "count_recognized_rows": "counts the rows of a file that were recognized",
    "read_staged_file": "counts the rows of a file that is submitted again",
}
"""Hot statements that may go through all that one import has, by index."""

FIRST_PAGE = {"after_item": -MAX_ID - 1, "after_field": 0, "after_chunk": -1, "after": -1}
LATER_PAGE = {
    "after_item": CONTACTS_OF_LARGEST // 2,
    "after_field": 2,
    "after_chunk": 60,
    "after": 20_000,
}

ORDER_OF_PAGE = {
    "results_page": ("results_of_job", "results_rejected"),
    "results_scanned_to": ("results_of_job", "results_rejected"),
    "unprocessed_page": ("job_chunks_pending",),
    "unprocessed_lines_page": ("import_rows_pkey",),
    "unprocessed_addresses_page": ("job_addresses_pkey",),
    "rejections_page": ("import_rejections_by_line",),
}
"""The index that has the rows of each page in its order; the second those that were rejected."""

SPECIAL = {
    "claim_next_chunk": [{}, {"share": 0.0}],
    "list_jobs": [{}, {"in_states": ["running"]}],
    "list_jobs_of_account": [{}, {"in_states": ["running"]}, {"of_action": "opt_out"}],
    "results_page": [
        {**cursor, "outcome": outcome, "reason": reason, "rejected": outcome == "rejected"}
        for cursor in (FIRST_PAGE, LATER_PAGE)
        for outcome, reason in (
            (None, None),
            ("applied", None),
            ("unchanged", "no_change"),
            ("rejected", None),
            ("rejected", "bounced"),
        )
    ],
    "results_scanned_to": [{"rejected": False}, {"rejected": True}],
    "list_contacts": [{}, {"address_id": 77}],
    "list_history": [{}, {"address_id": 77}],
    "find_contact_ids": [
        {"after": after, **sought}
        for after in (-MAX_ID - 1, CONTACTS_OF_LARGEST // 2)
        for sought in (
            {},
            {"narrowed": False, "statuses": None, "unengaged_before": None},
            {"tag_id": 7},
            {"import_job": IMPORT - 50},
            {"import_job": IMPORT - 50, "tag_id": 7},
        )
    ],
    "look_up_listed": [{}, {"item_ids": None}],
    "freeze_import": [{"fields": 2}],
}
"""Arguments of their own, where a statement is asked in more than one way."""


STATUSES = {"forecasting": list(Status), "contacts": ["bounce", "admin"]}


def items(subject: str, size: int) -> list[int]:
    """The ids of a chunk's items: of import rows, of listed addresses, or of contacts."""
    if subject in {"import_chunks", "imports"}:
        return [FIRST_ROW + 2 * n + 2 for n in range(size)]
    first = 3 * ROLE_ADDRESS + 25_001 if subject == "address_lists" else 1
    return list(range(first, first + size))


def arguments(subject: str, size: int) -> dict[str, Any]:
    """Something for every parameter of the subject's statements; lists are of `size` contacts."""
    of_import = subject in {"import_chunks", "imports"}
    addresses = 2 * size
    keys = [f"listed{n}@host.example" for n in range(1, size + 1)]
    return {
        "event": "job.paused",
        "actor_id": 7,
        "actor_kind": "key",
        "account_id": ACCOUNT,
        "action": "opt_out",
        "added_contact_ids": [1],
        "added_fields": [3],
        "added_keys": ["new2@host.example"],
        "added_item_ids": [FIRST_ROW + 2],
        "after": 20_000,
        "after_cause": "direct",
        "after_chunk": 60,
        "after_item": 7,
        "after_field": 1,
        "after_place": 1,
        "address_id": ROLE_ADDRESS,
        "addresses": keys,
        "address_ids": list(range(1, addresses + 1)),
        "applied": 1,
        "at": 1_700_000_000.0,
        "attempts": 1,
        "attempt": 1,
        "before": 2_900,
        "busy": [2, 3],
        "by_reason": {},
        "causes": ["direct"] * addresses,
        "cause": "direct",
        "cell_reasons": ["invalid_address"],
        "changed_by": [None] * addresses,
        "changed_from": ["confirmed"] * addresses,
        "changed_ids": list(range(1, addresses + 1)),
        "changed_to": ["admin"] * addresses,
        "chunk_no": 60,
        "chunk_size": CHUNK,
        "confirmation": {},
        "chunks": 10,
        "suspect_attempts": None,
        "chunk_seconds": 0.1,
        "job_concurrency": 8,
        "peak": 1,
        "peak_before": None,
        "plan_seconds": 0.1,
        "workers": 2,
        "workers_before": None,
        "contact_id": 7,
        "contact_ids": list(range(1, size + 1)),
        "item_id": FIRST_ROW + 2 if of_import else 3 * ROLE_ADDRESS + 25_001,
        "item_ids": items(subject, size),
        "items": list(range(1, size + 1)),
        "recognized_item_ids": list(range(FIRST_ROW + 2, FIRST_ROW + 2 + 2 * size, 2)),
        "recognized_contact_ids": list(range(1, size + 1)),
        "correlation_id": "",
        "counted": False,
        "drift": None,
        "decided_at": datetime(2024, 1, 1, tzinfo=UTC),
        "delay_seconds": 5.0,
        "detail": None if subject == "activity" else "it broke",
        "duration_ms": 1,
        "empty": 0,
        "error": "it broke",
        "external_ids": [f"id{n}" for n in range(1, size + 1)],
        "every_seconds": 5.0,
        "evidence": {},
        "min_contacts": 1,
        "min_lanes": 1,
        "first": 1,
        "forecast": {},
        "field": 1,
        "fields": [1, 2],
        "from_statuses": ["confirmed"] * addresses,
        "hook_id": 7,
        "token": 1,
        "idempotency_key": "key7",
        "idempotency_keys": ["key7", "key8"],
        "idle_ms": "1000",
        "ids": list(range(10**9, 10**9 + addresses)),
        "import_job": None,
        "in_csv": True,
        "in_states": None,
        "job_fields": [1],
        "job_id": IMPORT if of_import else OPT_OUT,
        "key_id": 7,
        "key_ids": [7, 8],
        "signing_key": "0123abcd",
        "former_days": 7,
        "renewed": True,
        "companies": [None] * size,
        "given_names": ["Ann"] * size,
        "family_names": [None] * size,
        "known_ids": [ROLE_ADDRESS + 1],
        "known_keys": ["shared1@host.example"],
        "known_roles": [False],
        "kinds": [1] * addresses,
        "lane": 1,
        "lanes": 8,
        "last": 1,
        "lease_seconds": 30.0,
        "line": 20_000,
        "listed": True,
        "lock_ms": "1000",
        "looked_at": 5_000,
        "match_key": "1000007.1@host.example",
        "match_keys": keys,
        "memory": "4MB",
        "milliseconds": "1000",
        "sibling_sensitive": [0] * 34,
        "limit": 100,
        "name": "account7",
        "new_addresses": keys,
        "new_ids": list(range(10**9, 10**9 + addresses)),
        "new_keys": keys,
        "new_status": "manual",
        "narrowed": True,
        "of_action": None,
        "oldest": 1,
        "outcome": None,
        "outcomes": ["applied"] * addresses,
        "own_right_statuses": ["admin", "manual"],
        "params": {},
        "plan_first": False,
        "from_states": ["running", "paused"],
        "propagated": 0,
        "received_at": datetime(2024, 1, 1, tzinfo=UTC),
        "recent_seconds": 10.0,
        "reason": None,
        "reasons": [None] * addresses if subject in {"results", "immediate_opt_outs"} else {},
        "refused": 100,
        "repeats": [],
        "stated": list(Status),
        "initial_statuses_by_stated": list(Status),
        "rejected": False if subject == "exports" else 0,
        "raw": False,
        "reach": [0] * 34,
        "role_sources": [0] * 34,
        "request_hash": "",
        "request_hashes": ["", ""],
        "requested_by": "somebody",
        "row_reasons": ["no_address"],
        "salt": bytes(16),
        "seconds": 1000.0,
        "selected": 1,
        "selection": {},
        "share": 0.5,
        "shared_address_limit": 10,
        "stalled_after_seconds": 5.0,
        "sources": [0] * 34,
        "spreading": [0] * 34,
        "source": "keap",
        "source_ids": [None] * addresses,
        "state": "idle",
        "statement_ms": "1000",
        "transaction_ms": "1000",
        "status": "non_marketable",
        "statuses": STATUSES.get(subject),
        "tag": None,
        "tag_id": None,
        "to_status": "admin",
        "to_statuses": ["admin"] * addresses,
        "unchanged": 0,
        "unengaged": ["unengaged_marketable"],
        "unengaged_before": datetime(2024, 1, 1, tzinfo=UTC),
        "urgent_actions": ["opt_out"],
        "url": "https://shop.example/ended",
        "via": "http",
        "versions": [1_000] * addresses,
        "to_state": "running",
        "without_external_id": [],
        "worker": "worker",
    }


@pytest.fixture(scope="module")
async def connection(new_database: NewDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a large database; what a test changes in it, it rolls back.

    Reading here and there costs what the embedded servers take it for. At Postgres's own 4, which
    is for disks that seek, tables of this size are worth reading whole.
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


def hot() -> list[tuple[str, str]]:
    """Return (subject, statement) of each statement that must never read a whole table."""
    return [(subject, name) for subject, names in HOT.items() for name in names.split()]


async def all_plans(
    connection: asyncpg.Connection, subject: str, name: str, *special: dict[str, Any]
) -> list[Plan]:
    """The plan for whatever arguments, and those for a chunk and for one contact."""
    statement = query_plans.statement(subject, name)
    ways = special or SPECIAL.get(name, ({},))
    return [
        await query_plans.generic_plan(connection, statement),
        *[
            await query_plans.custom_plan(connection, statement, arguments(subject, size) | way)
            for size, way in product((1, CHUNK), ways)
        ],
    ]


def test_each_statement_is_hot_or_exempt():
    """A new statement has to be guarded here, or to have a reason why it need not be."""
    folder = Path(queries.__file__).parent / "sql"
    subjects = {path.stem for path in folder.glob("*.sql")} - EXEMPT_FILES.keys()
    stated = {
        f"{subject}.{name}" for subject in subjects for name in query_plans.statement_names(subject)
    }
    classified = [f"{subject}.{name}" for subject, name in hot()] + list(EXEMPT)
    assert sorted(stated) == sorted(classified)
    assert WHOLE_IMPORT.keys() | SPECIAL.keys() <= {name for _, name in hot()}


@pytest.mark.parametrize(("subject", "name"), hot())
async def test_a_hot_statement_reads_only_what_it_needs(connection, indexes, subject, name):
    """No plan of it reads a whole table, account or large job, in CTEs and sub-queries neither."""
    for plan in await all_plans(connection, subject, name):
        assert not query_plans.find_excessive_reads(plan, indexes, whole_job=name in WHOLE_IMPORT)


async def test_a_listed_selection_reads_only_the_list(connection, indexes):
    """A job over listed contacts is planned without a look at the others of the account. Which
    branch of the statement is taken is known where it is planned for values, as it is: for
    whatever values it would seem as dear as a whole account.
    """
    statement = query_plans.statement("planning", "freeze_selection")
    for way in ({}, {"statuses": ["admin"]}):
        plan = await query_plans.custom_plan(connection, statement, arguments("planning", 1) | way)
        assert not query_plans.find_excessive_reads(plan, indexes, whole_job=False)


@pytest.mark.parametrize("name", ORDER_OF_PAGE)
@pytest.mark.parametrize("job_id", [OPT_OUT, NO_RESULTS_YET, IMPORT])
async def test_a_page_is_read_in_its_order(connection, name, job_id):
    """The first page and a later one are fed by an index that has the rows in the page's order, so
    that a page of millions costs what it gives, whether or not the planner knows of the job.
    """
    assert not await out_of_order(connection, name, job_id)


@pytest.mark.parametrize(
    ("name", "index"), [(name, index) for name, order in ORDER_OF_PAGE.items() for index in order]
)
async def test_a_page_out_of_order_is_found(connection, name, index):
    """The check above can fail: without its index, a page is objected to."""
    async with rolled_back(connection):
        await without_index(connection, index)
        assert await out_of_order(connection, name, OPT_OUT)


async def out_of_order(connection: asyncpg.Connection, name: str, job_id: int) -> list[Any]:
    """Those plans of a page's beginning and of its middle that take other ways than its index."""
    statement, order = query_plans.statement("exports", name), ORDER_OF_PAGE[name]
    made = [(await query_plans.generic_plan(connection, statement), list(order))]
    for cursor, size, rejected in product((FIRST_PAGE, LATER_PAGE), (1, CHUNK), range(len(order))):
        way = {**cursor, "job_id": job_id, "rejected": bool(rejected)}
        plan = await query_plans.custom_plan(
            connection, statement, arguments("exports", size) | way
        )
        made.append((plan, [order[rejected]]))
    found = []
    for plan, indexes in made:
        fed_by = query_plans.nodes_below_limit(plan)
        by = [node["Index Name"] for node in fed_by if "Index Name" in node]
        # One that is incremental goes on as the index gives its rows; one of nothing takes nothing.
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
    """A transaction of which nothing stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def without_index(connection: asyncpg.Connection, index: str) -> None:
    """Drop the index, with the constraint that it may belong to."""
    table = await connection.fetchval(
        "select conrelid::regclass::text from pg_constraint"
        " where conindid = $1::regclass and contype in ('p', 'u')",
        index,
    )
    await connection.execute(
        f"alter table {table} drop constraint {index}" if table else f"drop index {index}"
    )


async def test_a_history_looks_up_only_what_it_gives(connection):
    """The results of one address, thousands of them for a role address, are found by its index and
    put in order; jobs, sources and errors are looked up for those alone that are given.
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
    """The check of hot statements can fail: without its index, each plan is objected to."""
    async with rolled_back(connection):
        await without_index(connection, index)
        for plan in await all_plans(connection, subject, name):
            assert query_plans.find_excessive_reads(plan, indexes, whole_job=False)


async def test_triggers_read_only_what_they_need(connection):
    """What plans do not show: neither the triggers nor the foreign keys of what a chunk writes
    read a whole table. Reading one would be noticed.
    """
    async with rolled_back(connection):
        before = await whole_reads(connection)
        await write_as_chunks_do(connection)
        assert await whole_reads(connection) == before
        await connection.execute("select count(family_name) from contacts")
        assert await whole_reads(connection) == before | {"contacts": before["contacts"] + 1}


async def write_as_chunks_do(connection: asyncpg.Connection) -> None:
    """Let rows of an import arrive, and let an opt-out spread."""
    of_import = arguments("import_chunks", CHUNK)
    known = await import_chunks.lock_known_addresses(
        connection,
        account_id=ACCOUNT,
        job_id=IMPORT,
        item_ids=of_import["item_ids"],
        shared_address_limit=10,
    )
    made = await import_chunks.create_contacts(
        connection,
        account_id=ACCOUNT,
        job_id=IMPORT,
        item_ids=of_import["item_ids"],
        known=known,
        recognized=RecognitionResult(),
        initial_status="non_marketable",
        initial_statuses_by_stated={},
        tag="tag7",
    )
    assert len(made.links) == 2 * CHUNK
    read = await chunk_addresses.read_addresses(connection, ACCOUNT, list(range(1, 1_001)))
    assert await chunk_addresses.update_addresses(
        connection,
        account_id=ACCOUNT,
        job_id=OPT_OUT,
        decided_at=read.decided_at,
        changes={
            id_: (status, "admin", None if id_ % 2 else id_ - 1)
            for id_, status in zip(read.ids, read.statuses, strict=True)
        },
        versions=dict(zip(read.ids, read.versions, strict=True)),
    )


async def whole_reads(connection: asyncpg.Connection) -> dict[str, int]:
    """How often this transaction has read each table from end to end."""
    rows = await connection.fetch("select relname, seq_scan from pg_stat_xact_user_tables")
    return {
        row["relname"]: row["seq_scan"]
        for row in rows
        if row["relname"] not in query_plans.SMALL_TABLES
    }
