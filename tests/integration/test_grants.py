"""`sluice grants ROLE` grants what processes and commands need, and nothing more."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from db import queries
from db.grants import grant, grants
from db.migrate import latest_revision
from db.pool import connect_options
from db.queries import load
from runtime.devservers.embedded import ServerUrls
from schemas.errors import UnsafeRole
from tests.kit.commands import run_sluice
from tests.kit.factories import fill_large_account, make_account
from tests.kit.query_plans import statement
from tests.kit.servers import PROCESS_ROLE, process_role_url

SQL = Path(queries.__file__).parent / "sql"
SUBJECTS = sorted(path.stem for path in SQL.glob("*.sql"))

OWNER_ONLY = {"grants", "deployment.set_min_code_revision", "deployment.set_role_address_limit"}
"""Subjects, or statements as `subject.name`, that only the owner of the tables runs."""

FILLED_BY_COPY = {"results", "import_rows", "import_rejections", "job_addresses", "job_contacts"}
"""Tables that are also filled by COPY, which is not a named statement."""

READ_ELSEWHERE = {"alembic_version", "rejections"}
"""Tables that every start (`db.migrate`) or users with their own SQL read."""

ATTEMPTS = (
    "update results set reason = 'other'",
    "update results set outcome = outcome where false",
    "delete from results",
    "truncate results",
    "alter table results drop constraint never_reopened",
    "drop trigger results_are_kept on results",
    "alter table results disable trigger results_are_kept",
    "alter table results disable trigger all",
    "set session_replication_role = replica",
    "drop table results",
    "alter function refuse_rewriting() rename to other",
    "update jobs set evidence = '{}'",
    "update jobs set requested_by = 'nobody', state = state",
    "update jobs set selection = '{}', params = '{}'",
    "delete from jobs",
    "update jobs set actor_kind = 'cli'",
    "update activity set event = 'other'",
    "delete from activity",
    "alter table activity disable trigger activity_is_kept",
    "insert into job_states (account_id, job_id, state) values (1, 1, 'completed')",
    "update job_states set entered_at = now()",
    "delete from job_chunks",
    "update email_addresses set address = 'x@y.example', match_key = 'x@y.example'",
    "delete from email_addresses",
    "delete from contact_emails",
    "update accounts set name = 'other'",
    "update api_keys set account_id = 1, scopes = '{}'",
    "update hooks set account_id = 1",
    "update webhook_deliveries set url = 'http://192.0.2.1/'",
    "update alembic_version set version_num = '0001'",
    "create table mine (id int)",
    "create schema mine",
    "create index on results (decided_at)",
    "set role pg_write_all_data",
    "copy results to program 'true'",
)

RUNBOOK = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text(encoding="utf-8")

UNUSUAL_NAME = 'Jo "x"; drop table results --'

MakeRole = Callable[..., Awaitable[str]]


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection as the owner of the tables."""
    connection = await asyncpg.connect(**connect_options(database_url, pgbouncer=False))
    yield connection
    await connection.close()


@pytest.fixture
async def process(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection as a role with exactly the grants that processes need."""
    url = process_role_url(database_url)
    connection = await asyncpg.connect(**connect_options(url, pgbouncer=False))
    yield connection
    await connection.close()


@pytest.fixture
async def make_role(owner: asyncpg.Connection) -> AsyncIterator[MakeRole]:
    """Return a function that creates roles; drop them afterwards with their grants."""
    names = []

    async def make(options: str = "", prefix: str = "role") -> str:
        name = f"{prefix}_{uuid4().hex[:8]}"
        await owner.execute(f"create role {_quoted(name)} {options}")
        names.append(name)
        return name

    yield make
    for name in reversed(names):
        await owner.execute(f"drop owned by {_quoted(name)}")
        await owner.execute(f"drop role {_quoted(name)}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def _prepared(connection: asyncpg.Connection) -> dict[str, str]:
    """Prepare every statement; return its SQL by the EXPLAIN that executes it."""
    await connection.execute("set plan_cache_mode = force_generic_plan")
    explains = {}
    for subject in SUBJECTS:
        text = (SQL / f"{subject}.sql").read_text(encoding="utf-8")
        # Keep the file's order, since a transaction creates temporary tables before it uses them.
        for name in re.findall(r"-- name: (\w+)", text):
            if OWNER_ONLY & {subject, f"{subject}.{name}"}:
                continue
            query = statement(subject, name)
            if "create temporary table" in query.sql:
                await connection.execute(query.sql.replace("on commit drop", ""))
                continue
            await connection.execute(f"prepare {subject}__{name} as {query.sql}")
            nulls = f"({', '.join(['null'] * len(query.parameters))})" if query.parameters else ""
            explains[f"explain execute {subject}__{name}{nulls}"] = query.sql
    return explains


async def _is_denied(connection: asyncpg.Connection, sql: str) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(sql)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


async def test_every_table_is_listed_in_the_grants(owner: asyncpg.Connection) -> None:
    """Each table or view that a migration creates is listed in `db/sql/grants.sql`."""
    rows = [row async for row in load("grants").grants(owner, role=PROCESS_ROLE)]
    tables = await owner.fetch(
        "select relname::text as name from pg_class where relkind in ('r', 'p', 'v')"
        " and relnamespace = current_schema()::regnamespace"
    )
    assert {row["name"] for row in rows if row["name"]} == {row["name"] for row in tables}


async def test_every_function_is_granted(owner: asyncpg.Connection) -> None:
    """The role may run each function that statements call, even if PUBLIC may not."""
    await owner.execute("revoke execute on all functions in schema public from public")
    denied = await owner.fetchval(
        "select array_agg(proname::text) from pg_proc"
        " where pronamespace = 'public'::regnamespace and prorettype <> 'trigger'::regtype"
        " and not has_function_privilege($1, oid, 'execute')",
        PROCESS_ROLE,
    )
    assert denied is None


async def test_the_grants_suffice_for_every_statement(process: asyncpg.Connection) -> None:
    """The role passes the privilege checks with which Postgres starts each named statement."""
    denied = [sql for sql in await _prepared(process) if await _is_denied(process, sql)]
    assert denied == []


async def test_every_grant_is_needed(owner: asyncpg.Connection) -> None:
    """Without any one of the granted verbs and updatable columns, some statement is denied."""
    await owner.execute(f"set role {PROCESS_ROLE}")
    explains = await _prepared(owner)
    await owner.execute("reset role")
    held = await owner.fetch(
        "select c.relname::text, lower(a.privilege_type), null from pg_class c"
        " cross join aclexplode(c.relacl) a"
        " where c.relkind in ('r', 'p', 'v') and a.grantee = $1::text::regrole union all"
        " select t.attrelid::regclass::text, lower(a.privilege_type), t.attname::text"
        " from pg_attribute t cross join aclexplode(t.attacl) a"
        " where a.grantee = $1::text::regrole",
        PROCESS_ROLE,
    )
    assert len(held) > 60
    needless = []
    for table, verb, column in held:
        if table in READ_ELSEWHERE or (verb == "insert" and table in FILLED_BY_COPY):
            continue
        what = f"{verb} ({column})" if column else verb
        likely = [
            explain for explain, sql in explains.items() if table in sql and (column or "") in sql
        ]
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute(f"revoke {what} on {table} from {PROCESS_ROLE}")
        await owner.execute(f"set local role {PROCESS_ROLE}")
        for explain in likely:
            if await _is_denied(owner, explain):
                break
        else:
            needless.append(f"{what} on {table}")
        await transaction.rollback()
    assert needless == []


async def test_the_role_cannot_change_stored_data(process: asyncpg.Connection) -> None:
    """Stored data is protected from code that runs as the role. Its privileges alone make Postgres
    deny each attempt.
    """
    allowed = [attempt for attempt in ATTEMPTS if not await _is_denied(process, attempt)]
    assert allowed == []


async def test_a_temporary_table_does_not_replace_the_history(
    process: asyncpg.Connection, owner: asyncpg.Connection
) -> None:
    """A job's states are stored in the public table, even if the role has a temporary table of the
    same name.
    """
    await process.execute("create temporary table job_states (job_id bigint, state job_state)")
    job_id = await process.fetchval(
        "insert into jobs (account_id, action, fields, selection, requested_by, request_hash,"
        " correlation_id) select id, 'opt_out', '{1}', '{}', 'test', '', '' from accounts"
        " limit 1 returning id"
    )
    states = "select state::text from public.job_states where job_id = $1"
    assert await owner.fetchval(states, job_id) == "planning"


async def test_granting_is_idempotent_and_revokes_excess(
    owner: asyncpg.Connection, make_role: MakeRole
) -> None:
    """Granting is idempotent, for a role of any name. Excess privileges of the role are revoked,
    and other roles are not affected.
    """
    role, other = await make_role(prefix=UNUSUAL_NAME), await make_role()
    await owner.execute(f"grant update on results to {_quoted(other)}")
    access = "select array_agg((relname, relacl::text) order by relname)::text from pg_class"
    await grant(owner, role)
    first = await owner.fetchval(access)
    await owner.execute(f"grant all on all tables in schema public to {_quoted(role)}")
    await grant(owner, role)
    assert await owner.fetchval(access) == first
    assert await owner.fetchval("select has_table_privilege($1, 'results', 'update')", other)


async def test_roles_that_cannot_be_limited_are_rejected(
    owner: asyncpg.Connection, make_role: MakeRole
) -> None:
    """A superuser, the owner, a member of the owner and an unknown role are rejected. The error
    names the role, and nothing is granted.
    """
    owner_name = await owner.fetchval("select current_user")
    superuser, member = await make_role("superuser"), await make_role(f"in role {owner_name}")
    for role in (owner_name, superuser, member, "nobody_at_all"):
        with pytest.raises(UnsafeRole, match="Nothing was granted") as refused:
            await grant(owner, role)
        assert role in str(refused.value)
        with pytest.raises(UnsafeRole):
            await grants(owner, role)


async def test_only_the_owner_grants(owner: asyncpg.Connection, make_role: MakeRole) -> None:
    """A role that is not the owner is rejected, whatever its grants. Postgres itself would only
    warn.
    """
    role, other = await make_role(), await make_role()
    await grant(owner, role)
    for grantor in (role, other):
        await owner.execute(f"set role {_quoted(grantor)}")
        try:
            with pytest.raises(UnsafeRole, match="Nothing was granted") as refused:
                await grant(owner, other)
            assert await grants(owner, other)
        finally:
            await owner.execute("reset role")
        assert f'"{grantor}" cannot grant' in str(refused.value)
    assert not await owner.fetchval("select has_table_privilege($1, 'results', 'insert')", other)


EXCESS_GRANTS = {
    "grant update on results to {}": "update on results",
    "grant delete, truncate on jobs to {}": "delete on jobs",
    "grant create on schema public to {}": "create on schema public",
}
"""What a group may have been granted, and how the error names it."""


async def test_inherited_rights_of_a_role_are_reported(
    owner: asyncpg.Connection, make_role: MakeRole
) -> None:
    """A role that inherits more privileges from a group is rejected, and the error names one."""
    for excess_grant, named in EXCESS_GRANTS.items():
        group = await make_role()
        role = await make_role(f"in role {group}")
        await owner.execute(excess_grant.format(group))
        with pytest.raises(UnsafeRole, match=named):
            await grant(owner, role)
        assert not await owner.fetchval("select has_table_privilege($1, 'results', 'insert')", role)


async def test_an_ordinary_owner_migrates_and_grants_by_the_runbook(
    owner: asyncpg.Connection, servers: ServerUrls, monkeypatch
) -> None:
    """The runbook's statements and commands create a database with an ordinary owner, and a working
    role. With `OWNER_DATABASE_URL` the first migration also grants.
    """
    database = f"r{uuid4().hex[:8]}"
    section = RUNBOOK.partition("### A role of its own")[2].partition("\n#")[0]
    statements, commands = re.findall(r"```(?:postgresql|sh)\n(.*?)```", section, re.DOTALL)
    owners, apps = (
        urlsplit(process_role_url(servers.database_url, f"{database}_{suffix}"))._replace(
            path=f"/{database}"
        )
        for suffix in ("owner", "app")
    )
    monkeypatch.setenv("OWNER_DATABASE_URL", owners.geturl())
    monkeypatch.setenv("DATABASE_URL", apps.geturl())
    monkeypatch.setenv("REDIS_URL", servers.redis_url)
    password = urlsplit(servers.database_url).password or "of-no-use-elsewhere"
    try:
        for statement_ in re.sub(r"'\w+ secret'", f"'{password}'", statements).split(";\n")[:-1]:
            await owner.execute(statement_.replace("sluice", database))
        migrated, *others = [line.removeprefix("sluice ").split() for line in commands.splitlines()]
        output = await _run(*migrated)
        assert f"to {latest_revision()}" in output
        await _run("jobs")
        assert "already" in await _run(*migrated)
        for words in others:
            await _run(*(word.replace("sluice", database) for word in words))
    finally:
        await owner.execute(f"drop database if exists {database} with (force)")
        await owner.execute(f"drop role if exists {database}_owner, {database}_app")


async def _run(*words: str) -> str:
    done = await asyncio.to_thread(run_sluice, *words)
    assert done.exit_code == 0, done.output
    return done.output


async def test_the_sql_of_the_grants_can_be_printed(
    owner: asyncpg.Connection, make_role: MakeRole, settings, monkeypatch
) -> None:
    """`--print` changes nothing, and the printed SQL grants the same as the command."""
    role = await make_role()
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    shown = await asyncio.to_thread(run_sluice, "grants", role, "--print")
    assert shown.exit_code == 0, shown.output
    granted = "select has_table_privilege($1, 'results', 'insert')"
    assert not await owner.fetchval(granted, role)
    await owner.execute(shown.stdout)
    access = "select array_agg((relname, relacl::text) order by relname)::text from pg_class"
    by_hand = await owner.fetchval(access)
    assert await owner.fetchval(granted, role)
    done = await asyncio.to_thread(run_sluice, "grants", role)
    assert done.exit_code == 0, done.output
    assert await owner.fetchval(access) == by_hand
    refused = await asyncio.to_thread(run_sluice, "grants", "nobody_at_all")
    assert refused.exit_code == 2


async def test_the_role_can_run_verify(database_url: str, pool, settings, monkeypatch) -> None:
    """`sluice verify` needs no more privileges than the role has."""
    account_id = await make_account(pool, "acme")
    await fill_large_account(pool, account_id, 20)
    monkeypatch.setenv("DATABASE_URL", process_role_url(database_url))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    done = await asyncio.to_thread(run_sluice, "verify")
    assert done.exit_code == 0, done.output
    assert "No violations" in done.stdout
