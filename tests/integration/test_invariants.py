"""Every invariant of `sluice verify` holds after real work, and each corruption is found by its
check.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
from hypothesis import strategies as st

from db import invariants
from db.invariants import INVARIANTS, InvariantResult, check_invariant
from db.pool import open_pool
from runtime.devservers.embedded import ServerUrls
from runtime.settings import Settings
from schemas.requests import LISTED_ADDRESS_FIELD
from tests.conftest import NewDatabase
from tests.kit.commands import run_sluice
from tests.kit.corruptions import CORRUPTIONS, Corruption
from tests.kit.factories import fill, make_account
from tests.kit.model_comparison import LIMIT, job_sequences
from tests.kit.property_examples import check_property
from tests.kit.sample_account import AccountDriver, make_sample_account

OPTED_OUT = ("manual", False)


class SampleDatabase(NamedTuple):
    """A database in which one account has worked jobs, and the default account has none."""

    url: str
    pool: asyncpg.Pool
    account_id: int
    other_account_id: int


@pytest.fixture(scope="module")
async def sample(new_database: NewDatabase) -> AsyncIterator[SampleDatabase]:
    """Create the database once; no test leaves a change in it."""
    async with new_database() as url, await open_pool(url, size=3) as pool:
        account_id = await make_sample_account(pool, Settings(database_url=url), "proof")
        other = await pool.fetchval("select id from accounts where name = 'default'")
        yield SampleDatabase(url, pool, account_id, other)


async def check_all(
    connection: asyncpg.Connection, account_id: int | None = None
) -> dict[str, InvariantResult]:
    """Return the result of each invariant that is violated."""
    found = {
        each.name: await check_invariant(
            connection, each, role_address_limit=LIMIT, account_id=account_id
        )
        for each in INVARIANTS
    }
    return {name: each for name, each in found.items() if each.violations}


async def test_real_work_violates_no_invariant(sample: SampleDatabase) -> None:
    """Every invariant holds after pauses, cancellations, failures, splits and rejections."""
    states = {row["state"] for row in await sample.pool.fetch("select state from jobs")}
    assert states == {"completed", "cancelled", "failed", "paused"}
    assert await sample.pool.fetchval("select count(*) from job_chunks where state = 'split'")
    async with sample.pool.acquire() as connection:
        assert await check_all(connection) == {}


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda b: f"{b.invariant}: {b.what}")
async def test_each_corruption_violates_its_invariant(
    sample: SampleDatabase, corruption: Corruption
) -> None:
    """The intended check finds the corruption. No unrelated check does, and no check of another
    account.
    """
    async with sample.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("set local session_replication_role = replica")
            await connection.execute(corruption.sql)
            found = await check_all(connection)
            found_in_account = await check_all(connection, sample.account_id)
            found_in_other_account = await check_all(connection, sample.other_account_id)
        finally:
            await transaction.rollback()
    assert set(found) == {corruption.invariant, *corruption.also}
    assert found == found_in_account
    assert found_in_other_account == {}
    assert "@" not in str(found)


def test_every_invariant_has_a_corruption() -> None:
    """Each invariant has a corruption that violates it; a check that never failed means nothing."""
    assert {corruption.invariant for corruption in CORRUPTIONS} == {
        each.name for each in INVARIANTS
    }


def test_every_query_is_checked_and_described() -> None:
    """Each query in the SQL files is listed as an invariant, and has a description."""
    queries = {
        name: getattr(subject, name).__doc__
        for subject in invariants._SUBJECTS
        for name in subject.available_queries
        if not name.endswith("_cursor")
    }
    assert queries.keys() == {each.name for each in INVARIANTS}
    assert all(queries.values())


async def test_running_work_violates_only_at_rest_invariants(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """While an import and an opt-out are running, only the invariants marked `at_rest_only` are
    violated.
    """
    account_id = await make_account(pool, "busy")
    driver = AccountDriver(pool, settings, "busy")
    await fill(
        pool, account_id, {1_000_000: {1: "far@example.com"}}, {"far@example.com": OPTED_OUT}
    )
    await pool.execute("update contacts set given_name = 'Far'")
    rows = [[f"under{n}@example.com", "far@example.com", "info@example.com"] for n in range(6)]
    import_id = await driver.submit("import", rows, permission=True)
    await driver.work(import_id, chunks=1, chunk_size=2)
    opt_out_id = await driver.submit("opt_out", await driver.contacts_of(import_id), [1, 3])
    for job_id in (opt_out_id, import_id, import_id):
        await driver.work(job_id, chunks=1)
        async with pool.acquire() as connection:
            found = await check_all(connection)
        assert set(found) == {each.name for each in INVARIANTS if each.at_rest_only}


async def test_no_sequence_of_jobs_violates_an_invariant(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """Every invariant holds after any sequence of imports, opt-ins and opt-outs, even if jobs are
    paused or cancelled midway. All of them still hold once the paused jobs are done.
    """
    numbers = count(1)

    async def check_jobs(steps, ends, chunk_size) -> None:
        account = f"told-{next(numbers)}"
        account_id = await make_account(pool, account)
        driver = AccountDriver(pool, settings, account)
        contacts, paused = [], []
        for (action, what, fields, option), (chunks, end) in zip(steps, ends, strict=False):
            if action == "import":
                rows = [(name, [held.get(n, "") for n in (1, 2, 3)]) for name, held in what]
                job_id = await driver.submit("import", rows, permission=option)
            elif fields == [LISTED_ADDRESS_FIELD]:
                job_id = await driver.submit(action, what, fields, kind=option)
            else:
                ids = [contacts[n] if n < len(contacts) else 999_999_000 + n for n in what]
                kind = {"kind": option} if option else {}
                job_id = await driver.submit(action, ids, fields, **kind)
            await driver.work(job_id, chunks=chunks, chunk_size=chunk_size)
            if chunks is not None:
                await (driver.pause if end == "pause" else driver.cancel)(job_id)
                paused += [job_id] * (end == "pause")
            contacts += await driver.contacts_of(job_id)
            async with pool.acquire() as connection:
                assert await check_all(connection, account_id) == {}
        for job_id in paused:
            await driver.resume(job_id)
            await driver.work(job_id)
        async with pool.acquire() as connection:
            assert await check_all(connection, account_id) == {}

    without_events = job_sequences.map(lambda steps: [step for step in steps if step[0] != "event"])
    all_chunks = st.just((None, None))
    some_chunks = st.tuples(st.integers(0, 3), st.sampled_from(["pause", "cancel"]))
    ends = st.lists(all_chunks | some_chunks, min_size=7, max_size=7)
    await check_property(check_jobs, without_events, ends, st.integers(1, 4), max_examples=25)


def test_the_command_reports_no_violations(
    sample: SampleDatabase, use_database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an intact database the command prints a line for each check, and exits with status 0."""
    monkeypatch.setenv("COLUMNS", "400")
    use_database(sample.url)
    result = run_sluice("verify")
    assert result.exit_code == 0, result.output
    assert "No violations." in result.stdout
    for each in INVARIANTS:
        assert each.name in result.stdout
        assert each.claim in result.stdout
    answer = json.loads(run_sluice("verify", "--json", "--account", "proof").stdout)
    assert answer["violations"] == 0
    assert [each["name"] for each in answer["checks"]] == [each.name for each in INVARIANTS]


def test_the_command_reports_violations(database_url: str, use_database) -> None:
    """For a corrupted database the command exits with status 1, and shows the counts and the first
    examples, but no address.
    """
    use_database(database_url)
    asyncio.run(_corrupt_counts(database_url))
    result = run_sluice("verify")
    assert result.exit_code == 1
    assert re.search(r"every_address_counts_its_contacts .* 6 ", result.stdout)
    assert "every_address_counts_its_contacts, the first 5 of 6:" in result.stdout
    assert result.stdout.count("says 7 and 0 repeats, held by 0 and 0") == 5
    assert re.search(r"every_job_has_ended:\n.*\n.*planning since", result.stdout)
    assert "7 violations. The runbook says what each means." in result.stdout

    json_result = run_sluice("verify", "--json")
    assert json_result.exit_code == 1
    answer = json.loads(json_result.stdout)
    checks = {each["name"]: each for each in answer["checks"]}
    assert answer["violations"] == 7
    assert checks["every_address_counts_its_contacts"]["violations"] == 6
    assert (
        checks["every_address_counts_its_contacts"]["examples"][0]["detail"]
        == "says 7 and 0 repeats, held by 0 and 0"
    )
    assert checks["every_job_has_ended"]["examples"][0]["job_id"] == 1

    other_account = run_sluice("verify", "--account", "sound", "--json")
    assert (other_account.exit_code, json.loads(other_account.stdout)["violations"]) == (0, 0)
    assert "@" not in result.output + json_result.output


def test_the_command_can_allow_running_jobs(database_url: str, use_database) -> None:
    """With `--allow-running`, waiting and running jobs are no violation: that check is left out."""
    use_database(database_url)
    asyncio.run(_submit_a_job(database_url))
    assert run_sluice("verify").exit_code == 1
    result = run_sluice("verify", "--allow-running")
    assert result.exit_code == 0, result.output
    assert "every_job_has_ended" not in result.stdout


def test_an_unknown_account_is_an_error(database_url: str, use_database) -> None:
    """An unknown account is an error, so a typing mistake cannot pass for a clean result."""
    use_database(database_url)
    assert run_sluice("verify", "--account", "nobody").exit_code == 2


@pytest.fixture
def use_database(monkeypatch: pytest.MonkeyPatch, servers: ServerUrls, tmp_path: Path):
    """Return a function that points the command at a database, with the limit of the tests."""

    def use(url: str) -> None:
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("REDIS_URL", servers.redis_url)
        monkeypatch.setenv("ROLE_ADDRESS_LIMIT", str(LIMIT))
        monkeypatch.chdir(tmp_path)

    return use


async def _corrupt_counts(url: str) -> None:
    await _submit_a_job(url)
    async with await open_pool(url, size=1) as pool:
        account_id = await pool.fetchval("select id from accounts where name = 'default'")
        await pool.executemany(
            "insert into email_addresses (account_id, address, match_key, status, contact_count)"
            " values ($1, $2, $2, 'single_opt_in', 7)",
            [(account_id, f"secret{n}@example.com") for n in range(6)],
        )
        await make_account(pool, "sound")


async def _submit_a_job(url: str) -> None:
    async with await open_pool(url, size=1) as pool:
        await AccountDriver(pool, Settings(database_url=url), "default").submit("opt_in", [1], [1])
