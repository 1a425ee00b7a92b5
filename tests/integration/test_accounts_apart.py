"""Accounts are isolated: each statement names one, and no key, index or trigger spans several.

This isolates customers, and a distributed Postgres needs it to keep each account on its own node
(docs/scaling.md). The tests read plans, not SQL texts. If Postgres concludes that a table is read
for one account, the plan's condition says so, however the statement is written.
"""

import re
from pathlib import Path

import asyncpg
import pytest

from db import queries
from tests.kit import query_plans
from tests.kit.query_plans import Plan

WITHOUT_ACCOUNT = {
    "accounts": "the accounts themselves; a copy on each node",
    "sweeps": "one row for the fleet",
    "deployment": "one row for the fleet",
    "alembic_version": "the revision of the schema",
}
"""The tables that belong to no account."""

ACROSS_ACCOUNTS = {
    "activity.list_activity": "the command line lists the activity of all accounts",
    "hooks.get_hook": "a sender's URL names its hook by the id alone",
    "hooks.account_of_hook": "the command line names a hook by its id alone",
    "hooks.list_active_hooks": "requests for unknown hooks are rejected by the list of all hooks",
    "hooks.list_hooks": "the command line lists the hooks of all accounts",
    "jobs.account_of_job": "the command line names a job by its id alone",
    "jobs.list_jobs": "the command line lists the jobs of all accounts",
    "jobs.find_oldest_job_to_scan": "the command line lists the jobs of all accounts",
    "keys.get_key": "a request names its key by the id alone",
    "keys.account_of_key": "the command line names a key by its id alone",
    "keys.list_active_digests": "unknown keys are rejected by the list of all keys",
    "keys.list_keys": "the command line lists the keys of all accounts",
    "queue_stats.read_queue_loads": "the backlog of the whole fleet",
    "queue_stats.count_due_deliveries": "the backlog of the whole fleet",
    "sweeps.list_running_jobs": "the sweeper looks at all jobs, and locks job by job",
    "sweeps.list_stalled_plans": "the sweeper looks at all jobs, and locks job by job",
    "webhook_deliveries.has_due": "the due deliveries of the whole fleet",
    "webhook_deliveries.list_due": "the due deliveries of the whole fleet; claimed one by one",
}
"""The statements that read the rows of all accounts, each with a reason. They never write."""

EXEMPT_FILES = {
    "invariants": "`sluice verify` checks all accounts, and only reads",
    "invariants_of_addresses": "the same",
    "invariants_of_results": "the same",
    "uploads": "reads temporary tables; what it writes and looks up names the account",
}

INDEXES_ACROSS_ACCOUNTS = {
    "api_keys_by_id": "a request names its key by the id alone",
    "hooks_by_id": "a sender's URL names its hook by the id alone",
    "jobs_by_id": "the command line names a job by its id alone",
    "jobs_unfinished": "the sweeper looks at all jobs",
    "job_chunks_recent": "the recent durations of chunks, of the whole fleet",
    "webhook_deliveries_due": "the due deliveries of the whole fleet",
}
"""The indexes that do not start with the account, each with a reason. None is unique."""

_ONE_OR_ALL = re.compile(r"\(\$\d+ IS NULL\) OR \(account_id = \$\d+\)")
_CONDITIONS = ("Index Cond", "Recheck Cond", "Filter")


@pytest.fixture
async def connection(pool):
    """Open a connection to the test's database."""
    async with pool.acquire() as connection:
        yield connection


async def tables_of_accounts(connection: asyncpg.Connection) -> set[str]:
    """Return the tables with a non-null account in each row."""
    rows = await connection.fetch(
        "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid"
        " where a.attname = 'account_id' and a.attnotnull and c.relkind = 'r'"
        " and c.relnamespace = current_schema()::regnamespace"
    )
    return {row["relname"] for row in rows}


def statements() -> list[tuple[str, str]]:
    """Return (file, name) of each statement outside the exempt files."""
    folder = Path(queries.__file__).parent / "sql"
    subjects = sorted({path.stem for path in folder.glob("*.sql")} - EXEMPT_FILES.keys())
    return [
        (subject, name) for subject in subjects for name in query_plans.statement_names(subject)
    ]


def reads_any_account(plan: Plan, tables: set[str]) -> list[str]:
    """Return the nodes that read a table with accounts without an equality on the account."""
    found = []
    for node in query_plans.nodes(plan):
        if node.get("Relation Name") not in tables or node["Node Type"] == "ModifyTable":
            continue
        conditions = " ".join(
            each.get(kind, "") for each in (node, *node.get("Plans", ())) for kind in _CONDITIONS
        )
        conditions = _ONE_OR_ALL.sub("", conditions)
        # A parameter of the statement, or of a function inlined into it.
        if not re.search(r"\baccount_id = \(?'?\$?\d+'?", conditions):
            found.append(f"{node['Node Type']} on {node['Relation Name']}: {conditions or 'all'}")
    return found


async def test_each_data_table_has_an_account(connection):
    """Every table except the listed ones has a non-null `account_id`."""
    rows = await connection.fetch(
        "select relname from pg_class where relkind = 'r'"
        " and relnamespace = current_schema()::regnamespace"
    )
    tables = {row["relname"] for row in rows}
    assert tables == await tables_of_accounts(connection) | WITHOUT_ACCOUNT.keys()


async def test_each_statement_names_one_account(connection):
    """Each statement reads data of the one account that it names, except the listed statements."""
    await connection.execute("set enable_seqscan = off")
    tables = await tables_of_accounts(connection)
    across = {}
    for subject, name in statements():
        statement = query_plans.statement(subject, name)
        plan = await query_plans.generic_plan(connection, statement)
        if found := reads_any_account(plan, tables):
            across[f"{subject}.{name}"] = found
    assert across.keys() == ACROSS_ACCOUNTS.keys(), {
        name: found for name, found in across.items() if name not in ACROSS_ACCOUNTS
    }


async def test_statements_across_accounts_only_read(connection):
    """None of the statements that read all accounts writes or locks a row."""
    for full_name in ACROSS_ACCOUNTS:
        statement = query_plans.statement(*full_name.split("."))
        plan = await query_plans.generic_plan(connection, statement)
        kinds = {node["Node Type"] for node in query_plans.nodes(plan)}
        assert not kinds & {"ModifyTable", "LockRows"}, full_name


async def test_no_statement_mixes_tables_with_and_without_an_account(connection):
    """A statement that writes names only tables with an account, or only tables without one."""
    tables = await tables_of_accounts(connection)
    for subject, name in statements():
        plan = await query_plans.generic_plan(connection, query_plans.statement(subject, name))
        nodes = list(query_plans.nodes(plan))
        if not any(node["Node Type"] == "ModifyTable" for node in nodes):
            continue
        named = {node["Relation Name"] for node in nodes if "Relation Name" in node}
        assert named <= tables or not named & tables, f"{subject}.{name}: {named}"


async def test_each_row_is_written_with_the_account_of_its_statement(connection):
    """Each inserted account comes from an `account_id` column or from a statement parameter."""
    for subject, name in statements():
        text = re.sub(r"--.*", "", getattr(queries.load(subject), name).sql)
        for columns, source in re.findall(
            r"insert into \w+\s*\(([^)]*)\)\s*(?:select|values \()\s*(?:distinct )?([^,]*),", text
        ):
            if columns.split(",")[0].strip() == "account_id":
                assert re.fullmatch(r"(\w+\.)?(account_id)|\$\d+(::bigint)?", source.strip()), (
                    f"{subject}.{name}: {source}"
                )


async def test_each_key_and_index_begins_with_the_account(connection):
    """Each key and index of a table with an account starts with it, except the listed indexes. None
    of these is unique.
    """
    tables = await tables_of_accounts(connection)
    rows = await connection.fetch(
        "select c.relname as name, t.relname as table, i.indisunique as is_unique,"
        " (select attname from pg_attribute where attrelid = t.oid and attnum = indkey[0]) as first"
        " from pg_index i join pg_class c on c.oid = indexrelid join pg_class t on t.oid = indrelid"
        " where t.relnamespace = current_schema()::regnamespace"
    )
    exceptions = [row for row in rows if row["table"] in tables and row["first"] != "account_id"]
    assert {row["name"] for row in exceptions} == INDEXES_ACROSS_ACCOUNTS.keys()
    assert not [row["name"] for row in exceptions if row["is_unique"]]
    keys = await connection.fetch(
        "select conname, conrelid::regclass::text as table, confrelid::regclass::text as target,"
        " (select array_agg(attname::text order by place)"
        "  from unnest(conkey) with ordinality as k (attnum, place)"
        "  join pg_attribute a on a.attrelid = conrelid and a.attnum = k.attnum) as columns"
        " from pg_constraint where contype = 'f'"
        " and connamespace = current_schema()::regnamespace"
    )
    assert keys
    for key in keys:
        assert key["columns"][0] == "account_id", key
        assert (len(key["columns"]) == 1) == (key["target"] == "accounts"), key


async def test_each_function_names_one_account(connection):
    """A function or trigger that uses data of accounts has an equality on one account."""
    tables = await tables_of_accounts(connection)
    rows = await connection.fetch(
        "select proname, prosrc from pg_proc where pronamespace = current_schema()::regnamespace"
        " and prosrc is not null"
    )
    looked_at = 0
    for row in rows:
        for table, alias, rest in re.findall(
            r"(?:from|join|update) (\w+)( (?!where|set|loop)\w+)?([^;]*?)(?=\bfrom\b|\bjoin\b|;|$)",
            row["prosrc"],
        ):
            if table in tables:
                looked_at += 1
                named = f"{alias.strip()}." if alias else ""
                assert f"{named}account_id = " in rest, (row["proname"], table, rest)
    assert looked_at > 8


async def test_a_statement_without_its_account_is_found(connection):
    """The check finds a statement without its account condition, also within a sub-query."""
    tables = await tables_of_accounts(connection)
    statement = query_plans.statement("chunks", "claim_next_chunk")
    for condition in ("j.account_id = $2 and ", "c.account_id = $2 and ", "account_id = $2 and "):
        assert condition in statement.sql
        incomplete = statement._replace(sql=statement.sql.replace(condition, "", 1))
        assert reads_any_account(await query_plans.generic_plan(connection, incomplete), tables)
