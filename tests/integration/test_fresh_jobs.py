"""A hot statement touches few more rows than it needs, even for a job without statistics.

Keys start with the account, so the planner multiplies the selectivities of account and job. For a
job created after the last ANALYZE it expects one row. A plan that is good for one row may compare
every row of the job with every other one, which made sweeps take seconds. These tests run each hot
statement on such a job and count the rows and pages that its plan touched. Time would depend on the
machine.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from db import invariants
from db.pool import open_pool
from tests.conftest import NewDatabase
from tests.kit import query_plans
from tests.kit.hot_queries import EXEMPT, HOT, WHOLE_IMPORT
from tests.kit.large_database import ACCOUNT, FIRST_ROW, IMPORT, OPT_OUT, ROLE_ADDRESS
from tests.kit.query_arguments import SPECIAL, arguments

CHUNKS = 4_000
CONTACTS = 4_000
ROLE_CONTACTS = 400
SIZE = 500
"""The number of items given to a statement: few enough for an index, too many to compare pairs."""

MAX_ROWS_OF_ONE = 1_000
"""The limit of rows and of pages for a statement that is not about many items."""

MAX_ROWS = 80 * SIZE
"""The limit for a statement about `SIZE` items with 1,000 addresses; pairs would be 250,000 or
more.
"""

MAX_ROWS_OF_JOB = 30 * CONTACTS
"""The limit for a statement that may read a whole job or page; pairs would be millions."""

MAX_ROWS_OF_INVARIANT = 80 * CONTACTS
"""The limit for an invariant, which reads several tables; pairs would be millions."""

MAX_ROWS_OF = {"lock_repeated_role_addresses": 6_000, "find_missed_propagation": 6_000}
"""The limits for statements that look up the 1,001 addresses of an import."""

NEEDS_STATISTICS = {
    "insert_links": "without statistics, it compares known addresses with those of the chunk",
    "update_contacts": "without statistics, it compares contacts with those of the chunk",
}
"""Statements that are not tested in a database without statistics, each with the reason."""

WITHOUT_STATISTICS: dict[str, dict[str, Any]] = {"count_held_by_several": {"propagates": False}}
"""Arguments without statistics. There, counting the propagated addresses reads the account's links
for each shared address.
"""

WHOLE_JOB = {
    "refresh_counts",
    "complete_job",
    "end_job",
    "has_only_rejections",
    "read_job_counts",
    "read_job_progress",
    "close_plan",
    "read_queue_loads",
    "find_contact_ids",
    "results_page",
    "results_scanned_to",
    "list_contacts",
    "insert_completed_job",
}
"""Statements that read all chunks of a job, or larger pages than the others."""

EACH_CODE = {
    name: [1] * 34
    for name in ("sources", "role_sources", "beyond_sources", "changed_by", "propagating")
} | {"sibling_sensitive": [1] * 34, "large": False}
"""The codes with which every address propagates its opt-out to every sibling in a forecast."""

VALUES: dict[str, dict[str, Any]] = {
    "record": {"key_id": None, "hook_id": None},
    "finish_chunk": {"applied": 4},
    "end_job": {"to_state": "cancelled"},
    "insert_results": {"job_id": IMPORT},
    "insert_completed_job": {
        "fields": [1],
        "ids": [],
        "addresses": [],
        "match_keys": [],
    },
    "insert_links": {
        "known_ids": [2 * n - 1 for n in range(4, SIZE + 1, 4)]
        + [ROLE_ADDRESS + n for n in range(1, SIZE + 1)],
        "known_keys": [f"{2 * n - 1}@host.example" for n in range(4, SIZE + 1, 4)]
        + [f"shared{n}@host.example" for n in range(1, SIZE + 1)],
        "known_roles": [False] * (SIZE + SIZE // 4),
        "added_contact_ids": [],
        "added_fields": [],
        "added_keys": [],
        "added_item_ids": [],
    },
    "insert_repeats": {"job_id": IMPORT},
    "freeze_import": {"job_id": IMPORT, "fields": 2, "chunk_size": 2},
    "freeze_list": {"chunk_size": 2},
    "insert_listed": {"ids": list(range(10**9, 10**9 + SIZE))},
    "requeue_stalled_lanes": {"stalled_after_seconds": 0.0, "limit": 8},
    "queue_idle_lanes": {"limit": 8},
    "insert_delivery": {"job_id": IMPORT},
    "claim_due": {"job_id": OPT_OUT},
    "results_page": {"max_scanned": 5_000},
    "count_held_once": EACH_CODE | {"first": 1, "last": SIZE},
    "count_held_by_several": EACH_CODE,
    "count_listed": EACH_CODE,
    "find_earlier_decisions": {"address_ids": list(range(1, 40, 2))},
}
"""Arguments for which a statement has much to do."""

_ALL_DONE = f"""
update job_chunks set state = 'done', empty = pairs where job_id = {OPT_OUT};
update jobs set selected = (select sum(pairs) from job_chunks where job_id = {OPT_OUT})
where id = {OPT_OUT}"""

_OPT_OUT_COMPLETED = f"""
update job_chunks set state = 'done', applied = 4, finished_at = now() where job_id = {OPT_OUT};
update jobs set state = 'completed', finished_at = now(), applied = selected
where id = {OPT_OUT}"""

PREPARATIONS = {
    "freeze_list": f"delete from job_chunks where job_id = {OPT_OUT}",
    "freeze_import": f"delete from job_chunks where job_id = {IMPORT}",
    "insert_repeats": f"delete from import_repeated_addresses where job_id = {IMPORT}",
    "insert_links": f"""
        insert into contacts (account_id, id)
    select account_id, item_id from import_rows where job_id = {IMPORT}""",
    "requeue_stalled_lanes": f"""
        update job_lanes set state = 'held', chunk_no = 7 * lane + 1, worker = ''
        where job_id = {OPT_OUT}""",
    "count_attempt": f"update job_lanes set state = 'held', token = 1 where job_id = {OPT_OUT}",
    "complete_job": _ALL_DONE,
    "refresh_counts": _ALL_DONE,
    "claim_next_chunk": f"""
        update job_chunks set state = 'done', empty = pairs
        where job_id = {OPT_OUT} and chunk_no <> 77""",
    "count_held_by_several": "set local work_mem = '64MB'",
    "claim_due": f"update webhook_deliveries set due_at = now() where job_id = {OPT_OUT}",
    "list_due": f"update webhook_deliveries set due_at = now() where job_id = {OPT_OUT}",
    "close_plan": f"update jobs set state = 'planning' where id = {OPT_OUT}",
}
"""Statements that prepare the data, so that a statement finds rows to work on."""

SMALL_JOBS = """
insert into jobs (account_id, action, state, fields, selection, requested_by, request_hash,
                  correlation_id, planned_at, started_at, finished_at, selected)
select 1, 'opt_out', 'completed', '{1,2}', '{}', 'a test', '', '', now(), now(), now(), 0
from generate_series(1, 40);
insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, state, applied)
select account_id, id, n, '{1}', 2, 'done', 2 from jobs, generate_series(1, 3) n;
insert into job_lanes (account_id, job_id, lane) select account_id, id, 0 from jobs;
insert into contacts (account_id, id, import_job_id, external_id)
select 1, -n, n % 40, 'old' || n from generate_series(1, 200) n;
insert into email_addresses (account_id, id, address, match_key, status, contact_count)
select 1, -n, 'old' || n, 'old' || n, 'confirmed', 1
from generate_series(1, 200) n;
insert into contact_emails (account_id, contact_id, field, address_id)
select 1, -n, 1, -n from generate_series(1, 200) n;
insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     from_status, to_status)
select 1, 1 + n % 40, 1, -n, -n, 1, -n, 'applied', 'confirmed', 'admin'
from generate_series(1, 200) n;
insert into import_rows (account_id, job_id, item_id, line, addresses, match_keys)
select 1, 1 + n % 40, -n, n, array['a' || n, null, null], array['a' || n, null, null]
from generate_series(1, 200) n;
insert into import_repeated_addresses (account_id, job_id, match_key, contact_count, person_count)
select 1, 1 + n % 40, 'a' || n, 2, 2 from generate_series(1, 200) n;
insert into recognized_rows (account_id, job_id, item_id, contact_id)
select 1, 1 + n % 40, -n, -n from generate_series(1, 200) n;
insert into import_rejections (account_id, job_id, line, reason, detail)
select 1, 1 + n % 40, n, 'invalid_address', '' from generate_series(1, 200) n;
insert into job_addresses (account_id, job_id, item_id, line, address, match_key)
select 1, 1 + n % 40, -n, n, 'a' || n, 'a' || n from generate_series(1, 200) n;
insert into tags (account_id, id, name) values (1, 1, 'old');
insert into contact_tags (account_id, tag_id, contact_id)
select 1, 1, -n from generate_series(1, 100) n;
insert into webhook_deliveries (account_id, job_id, url, due_at, delivered_at)
select 1, id, '', now(), now() from jobs;
"""

FRESH_JOBS = f"""
insert into jobs (account_id, id, action, state, fields, selection, requested_by, idempotency_key,
                  request_hash, correlation_id, planned_at, started_at, selected)
overriding system value
select {ACCOUNT}, id, action, 'running', '{{1,2}}', '{{}}', 'a test', 'fresh' || id, '', '', now(),
       now(), {2 * CONTACTS}
from (values ({OPT_OUT}, 'opt_out'), ({IMPORT}, 'import')) j (id, action);

insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs)
select {ACCOUNT}, id, n, array(select generate_series(n * 2, n * 2 + 1)), 4
from unnest(array[{OPT_OUT}, {IMPORT}]) id, generate_series(1, {CHUNKS}) n;
insert into job_lanes (account_id, job_id, lane, state, touched_at)
select {ACCOUNT}, id, lane, 'idle', now() - interval '1 hour'
from unnest(array[{OPT_OUT}, {IMPORT}]) id, generate_series(0, 7) lane;

insert into contacts (account_id, id, given_name, import_job_id, external_id)
select {ACCOUNT}, n, 'Ann', {IMPORT}, 'id' || n from generate_series(1, {CONTACTS}) n;
insert into email_addresses (account_id, id, address, match_key, status, contact_count)
select {ACCOUNT}, n, key, key, 'confirmed'::email_status, 1
from generate_series(1, {2 * CONTACTS}) n, lateral (select n || '@host.example' as key) k
union all
select {ACCOUNT}, {ROLE_ADDRESS} + n, key, key, 'confirmed'::email_status,
       case when n = 0 then {ROLE_CONTACTS} else 2 end
from generate_series(0, 1000) n, lateral (select 'shared' || n || '@host.example' as key) k;
alter table email_addresses alter id restart with {2 * ROLE_ADDRESS};
insert into contact_emails (account_id, contact_id, field, address_id)
select {ACCOUNT}, n, field, 2 * n - 2 + field
from generate_series(1, {CONTACTS}) n, generate_series(1, 2) field
union all
select {ACCOUNT}, n, 3, {ROLE_ADDRESS} + case when n % 10 = 0 then 0 else (n + 1) / 10 end
from generate_series(1, {CONTACTS}) n where n % 10 in (0, 8, 9);

insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     reason, from_status, to_status)
select {ACCOUNT}, {OPT_OUT}, n / 2, n, n, 1, 2 * n - 1,
       case when n % 10 = 3 then 'rejected' else 'applied' end::result_outcome,
       case when n % 10 = 3 then 'bounced' end, 'confirmed',
       case when n % 10 <> 3 then 'admin' end::email_status
from generate_series(1, {CONTACTS}) n;

insert into import_rows (account_id, job_id, item_id, line, addresses, match_keys)
select {ACCOUNT}, {IMPORT}, {FIRST_ROW} + 2 * n, n, array[key, other, null],
       array[key, other, null]
from generate_series(1, {CONTACTS}) n,
     lateral (select case when n % 4 = 0 then 2 * n - 1 || '@host.example'
                          else 'new' || n || '@host.example' end as key,
                     'shared' || n % 1000 || '@host.example' as other) k;
insert into import_repeated_addresses (account_id, job_id, match_key, contact_count, person_count)
select {ACCOUNT}, {IMPORT}, 'shared' || n || '@host.example', 10, 10
from generate_series(0, 1000) n;
insert into recognized_rows (account_id, job_id, item_id, contact_id)
select {ACCOUNT}, {IMPORT}, 10 * {FIRST_ROW} + n, n from generate_series(1, {CONTACTS // 2}) n;
insert into import_rejections (account_id, job_id, line, reason, detail)
select {ACCOUNT}, {IMPORT}, n, 'invalid_address', '' from generate_series(1, {CONTACTS}) n;
insert into job_addresses (account_id, job_id, item_id, line, address, match_key)
select {ACCOUNT}, {OPT_OUT}, 3 * {ROLE_ADDRESS} + 25000 + n, n, key, key
from generate_series(1, {CONTACTS}) n,
     lateral (select case when n % 4 = 0 then 2 * n - 1 || '@host.example'
                          else 'listed' || n || '@host.example' end as key) k;
insert into tags (account_id, id, name)
select {ACCOUNT}, n + 1, 'tag' || n from generate_series(1, 50) n;
insert into contact_tags (account_id, tag_id, contact_id)
select {ACCOUNT}, 2 + n % 50, n from generate_series(1, {CONTACTS}) n;
insert into webhook_deliveries (account_id, job_id, url) values ({ACCOUNT}, {OPT_OUT}, '');
"""


@pytest.fixture(scope="module", params=["no statistics", "old statistics"])
async def connection(
    request: pytest.FixtureRequest, new_database: NewDatabase
) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection to a database whose large jobs are newer than its statistics, if any."""
    async with (
        new_database() as url,
        await open_pool(url, size=1) as pool,
        pool.acquire() as connection,
    ):
        await connection.execute(
            "do $$ declare name text; begin"
            " for name in select tablename from pg_tables where schemaname = current_schema() loop"
            " execute format('alter table %I set (autovacuum_enabled = off)', name);"
            " end loop; end $$"
        )
        if request.param == "old statistics":
            await connection.execute(SMALL_JOBS)
        await connection.execute("analyze")
        await connection.execute(FRESH_JOBS)
        # As in test_query_plans.py. The timeout ends a statement that compares all pairs.
        await connection.execute("set random_page_cost = 1.1; set statement_timeout = '20s'")
        yield connection


@asynccontextmanager
async def rolled_back(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Run the block in a transaction that is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def explain(
    connection: asyncpg.Connection, statement: query_plans.Statement, values: list[Any]
) -> query_plans.Plan:
    """Run the statement with a plan for these values, and return the plan with its measurements."""
    options = "analyze, buffers, timing off, format json"
    explained = await connection.fetchval(f"explain ({options}) {statement.sql}", *values)
    plan: query_plans.Plan = json.loads(explained)[0]["Plan"]
    return plan


async def explain_generic(
    connection: asyncpg.Connection, statement: query_plans.Statement, values: list[Any]
) -> query_plans.Plan:
    """Do the same with a generic plan, as a session may keep it for any values."""
    prepared = await connection.prepare(statement.sql)
    types = [f"{parameter.schema}.{parameter.name}" for parameter in prepared.get_parameters()]
    quoted = [f"quote_nullable(${n}::{name}::text)" for n, name in enumerate(types, 1)]
    literals = await connection.fetchrow(f"select {', '.join(quoted)}", *values) if types else ()
    listed = f"({', '.join(literals)})" if types else ""
    await connection.execute("set local plan_cache_mode = force_generic_plan")
    await connection.execute(f"prepare looked_at as {statement.sql}")
    try:
        return await explain(
            connection, query_plans.Statement(f"execute looked_at{listed}", ()), []
        )
    finally:
        await connection.execute("deallocate looked_at")


def touched_rows(plan: query_plans.Plan) -> int:
    """Return how many rows the plan's nodes returned or discarded, in all their loops."""
    discarded = [f"Rows Removed by {what}" for what in ("Filter", "Index Recheck", "Join Filter")]
    return int(
        sum(
            node["Actual Loops"] * sum(node.get(key, 0) for key in ("Actual Rows", *discarded))
            for node in query_plans.nodes(plan)
        )
    )


SUBJECTS = {subject: names.split() for subject, names in HOT.items()}
for exempt in EXEMPT:
    if exempt.startswith("forecasting.count"):
        SUBJECTS["forecasting"].append(exempt.partition(".")[2])


def allowed_rows(name: str, values: list[Any], *, has_statistics: bool) -> int:
    """Return how many rows, and how many pages, a statement may touch."""
    if name in MAX_ROWS_OF:
        return MAX_ROWS_OF[name]
    if name in WHOLE_JOB or name in WHOLE_IMPORT or name.startswith("count_"):
        return MAX_ROWS_OF_JOB
    if not any(isinstance(value, list) and len(value) >= SIZE for value in values):
        return MAX_ROWS_OF_ONE
    # A new database has no statistics for a minute. Until then a statement may read the account.
    return MAX_ROWS if has_statistics else MAX_ROWS + 10 * CONTACTS


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_statements_touch_what_they_need(connection, subject):
    """Neither the custom plan nor the generic plan compares all pairs of rows."""
    has_statistics = await connection.fetchval(
        "select reltuples > 0 from pg_class where relname = 'job_chunks'"
    )
    excessive = []
    for name in SUBJECTS[subject]:
        if name in NEEDS_STATISTICS and not has_statistics:
            continue
        statement = query_plans.statement(subject, name)
        special = (*SPECIAL.get(name, ()), {})[0]
        arguments_ = arguments(subject, SIZE) | special | VALUES.get(name, {})
        if not has_statistics:
            arguments_ |= WITHOUT_STATISTICS.get(name, {})
        for run in (explain, explain_generic):
            async with rolled_back(connection):
                await connection.execute(PREPARATIONS.get(name, "select"))
                arguments_["versions"] = await versions(connection, arguments_)
                values = [arguments_[key] for key in statement.parameters]
                plan = await run(connection, statement, values)
            pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            touched = max(touched_rows(plan), pages)
            allowed = allowed_rows(name, values, has_statistics=has_statistics)
            if touched > allowed:
                excessive.append(
                    f"{name} by {run.__name__}: {touched_rows(plan)} rows, {pages} pages"
                )
    assert excessive == []


async def test_a_plan_that_compares_all_pairs_is_found(connection):
    """A statement whose plan compares chunks with chunks exceeds every limit."""
    compared = query_plans.Statement(
        "select from job_chunks a join job_chunks b"
        " on b.account_id = a.account_id and b.job_id = a.job_id and b.pairs < a.pairs"
        " where a.account_id = 1 and a.job_id = $1 and a.chunk_no <= 40",
        ("job_id",),
    )
    for run in (explain, explain_generic):
        async with rolled_back(connection):
            assert touched_rows(await run(connection, compared, [OPT_OUT])) > MAX_ROWS_OF_JOB


@pytest.mark.parametrize(
    "subject", ["invariants", "invariants_of_results", "invariants_of_addresses"]
)
async def test_invariants_touch_each_row_a_few_times(connection, subject):
    """`sluice verify` does not compare all pairs of rows, in one account or in all. No plan has a
    merge join: whether one compares pairs depends on the sizes of the tables.
    """
    excessive = []
    async with rolled_back(connection):
        await connection.execute(_OPT_OUT_COMPLETED)
        await invariants.avoid_comparing_pairs(connection)
        for name in sorted(query_plans.statement_names(subject)):
            statement = query_plans.statement(subject, name)
            for account_id in (ACCOUNT, None):
                given = invariants._VOCABULARY | {
                    "account_id": account_id,
                    "limit": invariants.MAX_EXAMPLES,
                    "role_address_limit": 10,
                }
                values = [given[key] for key in statement.parameters]
                plan = await explain(connection, statement, values)
                merges = any(node["Node Type"] == "Merge Join" for node in query_plans.nodes(plan))
                if merges or touched_rows(plan) > MAX_ROWS_OF_INVARIANT:
                    excessive.append(f"{name}, account {account_id}: {touched_rows(plan)} rows")
    assert excessive == []


async def versions(connection: asyncpg.Connection, values: dict[str, Any]) -> list[int]:
    """Return the versions of the addresses that a statement is to change, in order."""
    rows = await connection.fetch(
        "select a.xmin from unnest($2::bigint[]) with ordinality as u (id, n)"
        " join email_addresses a on a.account_id = $1 and a.id = u.id order by n",
        ACCOUNT,
        values["address_ids"],
    )
    return [row["xmin"] for row in rows]
