"""Plans that Postgres makes for named statements, and their excessive reads."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import asyncpg

from db.queries import load

Plan: TypeAlias = dict[str, Any]
"""A node of a plan in EXPLAIN's JSON, with its child nodes in `Plans`."""

SMALL_TABLES = frozenset({"accounts", "sweeps", "pg_database"})
"""Tables so small that a full scan is the cheapest way."""

SMALL_PER_ACCOUNT = frozenset({"tags"})
"""Tables with so few rows per account that all of them may be read."""

SHORT_INDEXES = frozenset({"jobs_unfinished"})
"""Indexes that contain only the few rows of interest and may be read completely."""

SMALL_PER_JOB = frozenset({"job_chunks", "job_lanes", "job_contacts", "job_states"})
"""Tables with at most some thousand rows per job, all of which may be read."""

_INDEX_SCANS = frozenset({"Index Scan", "Index Only Scan", "Bitmap Index Scan"})


class Statement(NamedTuple):
    """A named statement as the driver receives it."""

    sql: str
    parameters: tuple[str, ...]


class Index(NamedTuple):
    """An index: its table and its columns in order."""

    table: str
    columns: tuple[str, ...]


def statement(subject: str, name: str) -> Statement:
    """Return the statement `name` of `db/sql/<subject>.sql`."""
    query = getattr(load(subject), name)
    parameters = tuple(p for p in inspect.signature(query).parameters if p != "self")
    return Statement(query.sql.strip().removesuffix(";"), parameters)


def statement_names(subject: str) -> set[str]:
    """Return all statements of `db/sql/<subject>.sql`; cursor variants are not
    listed separately.
    """
    return {name for name in load(subject).available_queries if not name.endswith("_cursor")}


async def indexes(connection: asyncpg.Connection) -> dict[str, Index]:
    """Return the indexes of the database by name, with their columns in order."""
    rows = await connection.fetch(
        "select i.indexrelid::regclass::text as name, i.indrelid::regclass::text as on_table,"
        " array_agg(a.attname::text order by a.attnum) as columns"
        " from pg_index i join pg_attribute a on a.attrelid = i.indexrelid"
        " where i.indrelid::regclass::text not like 'pg_%' group by i.indexrelid, i.indrelid"
    )
    return {row["name"]: Index(row["on_table"], tuple(row["columns"])) for row in rows}


async def custom_plan(
    connection: asyncpg.Connection, statement: Statement, arguments: Mapping[str, Any]
) -> Plan:
    """Return the plan for these arguments; EXPLAIN with bound parameters plans for their values."""
    values = [arguments[name] for name in statement.parameters]
    return _plan(await connection.fetchval(f"explain (format json) {statement.sql}", *values))


async def generic_plan(connection: asyncpg.Connection, statement: Statement) -> Plan:
    """Return the plan for any arguments, which a session may keep for a prepared statement."""
    nulls = f"({', '.join(['null'] * len(statement.parameters))})" if statement.parameters else ""
    async with connection.transaction():
        await connection.execute("set local plan_cache_mode = force_generic_plan")
        await connection.execute(f"prepare looked_at as {statement.sql}")
        try:
            return _plan(
                await connection.fetchval(f"explain (format json) execute looked_at{nulls}")
            )
        finally:
            await connection.execute("deallocate looked_at")


def _plan(explained: str) -> Plan:
    plan: Plan = json.loads(explained)[0]["Plan"]
    return plan


def nodes(plan: Plan) -> Iterator[Plan]:
    """Yield all nodes of the plan, including those of CTEs and sub-queries."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def find_excessive_reads(plan: Plan, indexes: Mapping[str, Index], *, whole_job: bool) -> list[str]:
    """Return the nodes that read a whole table or all of an account's rows.

    With `whole_job`, a statement may read all rows of one job by an index.
    """
    found = (_objection(node, indexes, whole_job=whole_job) for node in nodes(plan))
    return [objection for objection in found if objection]


def _objection(node: Plan, indexes: Mapping[str, Index], *, whole_job: bool) -> str | None:
    kind = node["Node Type"]
    if kind in {"Seq Scan", "Sample Scan"} and node["Relation Name"] not in SMALL_TABLES:
        return f"{kind} on {node['Relation Name']}"
    if kind not in _INDEX_SCANS or node["Index Name"] in SHORT_INDEXES:
        return None
    if node.get("Relation Name", "").startswith("pg_"):
        # A catalog table, which other tests of the server fill as well.
        return None
    index = indexes[node["Index Name"]]
    condition = node.get("Index Cond", "")
    missing = [
        column
        for column in _required_columns(index, whole_job=whole_job)
        # Columns of other tables are qualified by their table's name.
        if not re.search(rf"(?<![.\w]){column}(?![.\w])", condition)
    ]
    if index.table in SMALL_TABLES or not missing:
        return None
    return f"{kind} by {node['Index Name']} over any {', '.join(missing)}: {condition or 'all'}"


def _required_columns(index: Index, *, whole_job: bool) -> tuple[str, ...]:
    """Return the columns that a condition on the index must name; account or job alone is not
    enough.
    """
    enough = {
        "account_id": index.table in SMALL_PER_ACCOUNT,
        "job_id": whole_job or index.table in SMALL_PER_JOB,
        "import_job_id": whole_job,
    }
    more = [enough.get(column, True) for column in index.columns]
    return index.columns[: more.index(True) + 1 if True in more else len(more)]


def nodes_below_limit(plan: Plan) -> list[Plan]:
    """Return the nodes below the outermost limit, without sub-queries of single rows."""
    limit = next(node for node in nodes(plan) if node["Node Type"] == "Limit")
    return [
        node
        for below in limit["Plans"]
        if below["Parent Relationship"] == "Outer"
        for node in _spine(below)
    ]


def _spine(plan: Plan) -> Iterator[Plan]:
    yield plan
    for below in plan.get("Plans", ()):
        if below["Parent Relationship"] not in {"SubPlan", "InitPlan"}:
            yield from _spine(below)
