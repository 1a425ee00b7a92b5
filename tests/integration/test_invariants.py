"""What `sluice verify` checks holds after real work, and each break of it is seen by its check."""

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

GONE = ("manual", False)


class SampleDatabase(NamedTuple):
    """A database in which one account was worked, and the default account was not."""

    url: str
    pool: asyncpg.Pool
    account_id: int
    other_account_id: int


@pytest.fixture(scope="module")
async def sample(new_database: NewDatabase) -> AsyncIterator[SampleDatabase]:
    """Made once: no test leaves a change in it."""
    async with new_database() as url, await open_pool(url, size=3) as pool:
        account_id = await make_sample_account(pool, Settings(database_url=url), "proof")
        other = await pool.fetchval("select id from accounts where name = 'default'")
        yield SampleDatabase(url, pool, account_id, other)


async def check_all(
    connection: asyncpg.Connection, account_id: int | None = None
) -> dict[str, InvariantResult]:
    """What breaks each invariant that is broken."""
    found = {
        each.name: await check_invariant(
            connection, each, shared_address_limit=LIMIT, account_id=account_id
        )
        for each in INVARIANTS
    }
    return {name: each for name, each in found.items() if each.violations}


async def test_real_work_violates_no_invariant(sample: SampleDatabase) -> None:
    """After pauses, cancels, failures, splits and refusals every invariant holds."""
    states = {row["state"] for row in await sample.pool.fetch("select state from jobs")}
    assert states == {"completed", "cancelled", "failed", "paused"}
    assert await sample.pool.fetchval("select count(*) from job_chunks where state = 'split'")
    async with sample.pool.acquire() as connection:
        assert await check_all(connection) == {}


@pytest.mark.parametrize("broken", CORRUPTIONS, ids=lambda b: f"{b.invariant}: {b.what}")
async def test_each_corruption_violates_its_invariant(
    sample: SampleDatabase, broken: Corruption
) -> None:
    """The check that is meant finds it, no other does that need not, and not in another account."""
    async with sample.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("set local session_replication_role = replica")
            await connection.execute(broken.sql)
            found = await check_all(connection)
            of_account = await check_all(connection, sample.account_id)
            of_another = await check_all(connection, sample.other_account_id)
        finally:
            await transaction.rollback()
    assert set(found) == {broken.invariant, *broken.also}
    assert found == of_account
    assert of_another == {}
    assert "@" not in str(found)


def test_every_invariant_has_a_break() -> None:
    """A check that nothing was ever seen to trip proves nothing."""
    assert {broken.invariant for broken in CORRUPTIONS} == {each.name for each in INVARIANTS}


def test_every_query_is_checked_and_described() -> None:
    """Each query of the files is in the list under its name, and says what it finds."""
    queries = {
        name: getattr(subject, name).__doc__
        for subject in invariants._SUBJECTS
        for name in subject.available_queries
        if not name.endswith("_cursor")
    }
    assert queries.keys() == {each.name for each in INVARIANTS} | {"plan_for_all_rows"}
    assert all(queries.values())


async def test_work_under_way_breaks_only_what_needs_rest(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """While an import and an opt-out are under way, every invariant holds but those of rest."""
    account_id = await make_account(pool, "busy")
    here = AccountDriver(pool, settings, "busy")
    await fill(pool, account_id, {1_000_000: {1: "far@example.com"}}, {"far@example.com": GONE})
    await pool.execute("update contacts set given_name = 'Far'")
    rows = [[f"under{n}@example.com", "far@example.com", "info@example.com"] for n in range(6)]
    arriving = await here.submit("import", rows, permission=True)
    await here.work(arriving, chunks=1, chunk_size=2)
    leaving = await here.submit("opt_out", await here.contacts_of(arriving), [1, 3])
    for job_id in (leaving, arriving, arriving):
        await here.work(job_id, chunks=1)
        async with pool.acquire() as connection:
            found = await check_all(connection)
        assert set(found) == {each.name for each in INVARIANTS if each.at_rest_only}


async def test_no_story_breaks_anything(pool: asyncpg.Pool, settings: Settings) -> None:
    """Whatever imports, opt-ins and opt-outs follow each other, and whichever of them are paused
    or cancelled in the middle: every invariant holds after each, and once the paused are done.
    """
    numbers = count(1)

    async def tell(todo, ends, chunk_size) -> None:
        account = f"told-{next(numbers)}"
        account_id = await make_account(pool, account)
        here = AccountDriver(pool, settings, account)
        contacts, paused = [], []
        for (action, what, fields, how), (chunks, end) in zip(todo, ends, strict=False):
            if action == "import":
                rows = [(name, [held.get(n, "") for n in (1, 2, 3)]) for name, held in what]
                job_id = await here.submit("import", rows, permission=how)
            elif fields == [LISTED_ADDRESS_FIELD]:
                job_id = await here.submit(action, what, fields, kind=how)
            else:
                ids = [contacts[n] if n < len(contacts) else 999_999_000 + n for n in what]
                kind = {"kind": how} if how else {}
                job_id = await here.submit(action, ids, fields, **kind)
            await here.work(job_id, chunks=chunks, chunk_size=chunk_size)
            if chunks is not None:
                await (here.pause if end == "pause" else here.cancel)(job_id)
                paused += [job_id] * (end == "pause")
            contacts += await here.contacts_of(job_id)
            async with pool.acquire() as connection:
                assert await check_all(connection, account_id) == {}
        for job_id in paused:
            await here.resume(job_id)
            await here.work(job_id)
        async with pool.acquire() as connection:
            assert await check_all(connection, account_id) == {}

    without_events = job_sequences.map(lambda steps: [step for step in steps if step[0] != "event"])
    whole = st.just((None, None))
    in_part = st.tuples(st.integers(0, 3), st.sampled_from(["pause", "cancel"]))
    ends = st.lists(whole | in_part, min_size=7, max_size=7)
    await check_property(tell, without_events, ends, st.integers(1, 4), max_examples=25)


def test_the_command_says_that_nothing_is_violated(
    sample: SampleDatabase, as_a_user_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound database: a line for each check, and exit status 0."""
    monkeypatch.setenv("COLUMNS", "400")
    as_a_user_of(sample.url)
    result = run_sluice("verify")
    assert result.exit_code == 0, result.output
    assert "No violations." in result.stdout
    for each in INVARIANTS:
        assert each.name in result.stdout
        assert each.claim in result.stdout
    answer = json.loads(run_sluice("verify", "--json", "--account", "proof").stdout)
    assert answer["violations"] == 0
    assert [each["name"] for each in answer["checks"]] == [each.name for each in INVARIANTS]


def test_the_command_shows_what_is_violated(database_url: str, as_a_user_of) -> None:
    """A broken database: exit status 1, the counts, the first examples, and no address."""
    as_a_user_of(database_url)
    asyncio.run(_break_counts(database_url))
    result = run_sluice("verify")
    assert result.exit_code == 1
    assert re.search(r"every_address_counts_its_contacts .* 6 ", result.stdout)
    assert "every_address_counts_its_contacts, the first 5 of 6:" in result.stdout
    assert result.stdout.count("says 7 and 0 repeats, held by 0 and 0") == 5
    assert re.search(r"every_job_has_ended:\n.*\n.*planning since", result.stdout)
    assert "7 violations. The runbook says what each means." in result.stdout

    in_json = run_sluice("verify", "--json")
    assert in_json.exit_code == 1
    answer = json.loads(in_json.stdout)
    checks = {each["name"]: each for each in answer["checks"]}
    assert answer["violations"] == 7
    assert checks["every_address_counts_its_contacts"]["violations"] == 6
    assert (
        checks["every_address_counts_its_contacts"]["examples"][0]["detail"]
        == "says 7 and 0 repeats, held by 0 and 0"
    )
    assert checks["every_job_has_ended"]["examples"][0]["job_id"] == 1

    elsewhere = run_sluice("verify", "--account", "sound", "--json")
    assert (elsewhere.exit_code, json.loads(elsewhere.stdout)["violations"]) == (0, 0)
    assert "@" not in result.output + in_json.output


def test_the_command_lets_jobs_be_that_are_under_way(database_url: str, as_a_user_of) -> None:
    """With `--allow-running` a job that waits or runs is no violation: its check is left out."""
    as_a_user_of(database_url)
    asyncio.run(_submit_a_job(database_url))
    assert run_sluice("verify").exit_code == 1
    result = run_sluice("verify", "--allow-running")
    assert result.exit_code == 0, result.output
    assert "every_job_has_ended" not in result.stdout


def test_an_account_that_is_not_there_is_said(database_url: str, as_a_user_of) -> None:
    """A mistyped account is no proof of anything."""
    as_a_user_of(database_url)
    assert run_sluice("verify", "--account", "nobody").exit_code == 2


@pytest.fixture
def as_a_user_of(monkeypatch: pytest.MonkeyPatch, servers: ServerUrls, tmp_path: Path):
    """The command finds a database in the environment, and takes the tests' limit."""

    def use(url: str) -> None:
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("REDIS_URL", servers.redis_url)
        monkeypatch.setenv("SHARED_ADDRESS_LIMIT", str(LIMIT))
        monkeypatch.chdir(tmp_path)

    return use


async def _break_counts(url: str) -> None:
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
