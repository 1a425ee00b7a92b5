"""The comparison of `make bench` runs to its end, and does not compare different work."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from rich.console import Console

import bench.__main__ as program
from bench import latency, lists, results_files, table
from bench.contenders import ONE_STATEMENT, OneStatement
from bench.course import TITLES, Course, Sizes
from bench.effects import EffectsDiffer
from bench.line import NOT_MEASURED, NOT_YET
from bench.progress import Steps
from bench.rounds import Rounds, rotated
from bench.templates import Copy, Templates, making_templates
from bench.terminal import bar
from db.invariants import INVARIANTS, check_invariant
from producers.accounts import create_account
from runtime.devservers.embedded import ServerUrls

TINY = Sizes(
    large=300,
    middle=300,
    bulk=300,
    objects=30,
    rounds=1,
    passes=2,
    import_rows=50,
    imports=1,
    small_jobs=2,
    idle_seconds=0.2,
)
WITH_GOALS = [
    "two_processes",
    "one_process",
    "celery_bulk",
    "celery_objects",
    "opt_out_beside",
    "row_lock",
    "small_job",
    "import_ratio",
    "http_opt_outs",
    "http_opt_out_p99",
    "http_submit",
    "http_stream_csv",
    "http_stream_ndjson",
    "http_memory",
    "http_plan_opt_in",
    "http_plan_opt_out",
    "large_rate",
    "large_memory",
    "page_results",
    "page_rejections",
    "page_history",
]


@pytest.fixture
async def templates(servers: ServerUrls) -> AsyncIterator[Templates]:
    async with making_templates(servers, lambda _text: None) as made:
        yield made


@pytest.fixture
def steps() -> Steps:
    console = Console(quiet=True)
    return Steps(bar(console, hidden=True), console)


async def test_the_course_has_everything_for_the_table(
    templates: Templates, steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tiny round of one statement and Sluice gives a figure for each of their lines."""
    monkeypatch.setattr(latency, "LONGEST_SECONDS", 1.0)
    monkeypatch.setattr(latency, "CONNECTIONS", 4)
    only = ["one_statement", "sluice_2"]
    figures = await Course(templates, steps, tmp_path, TINY, only).run()
    made = table.lines(figures, None, TITLES)
    assert [line.key for line in made if line.goal] == WITH_GOALS
    measured = {line.key for line in made if line.measured not in {NOT_MEASURED, NOT_YET}}
    assert {
        *("two_processes", "opt_out_beside", "row_lock", "small_job", "plan", "import", "redis"),
        *("wait idle", "memory sluice_2", "others"),
        *(f"bytes {key} {job}" for key in only for job in ("opt_in", "opt_out")),
        *(f"rate 300 {job} {key}" for key in only for job in ("opt_in", "opt_out")),
        *(f"lock {key} {job}" for key in only for job in ("opt_in", "opt_out")),
    } <= measured
    assert all(
        each[job]["opt_outs"].get("lost", 0) == 0
        for each in figures["beside"]
        for job in ("opt_in", "opt_out")
    )
    assert [each["contender"] for each in figures["beside"]] == [*only, "sluice_2"]
    assert set(results_files.medians(figures["rounds"])["middle"]) == set(only)


class Careless(OneStatement):
    """Calls one opt-out that of the recipient, after the jobs."""

    @asynccontextmanager
    async def on(self, copy: Copy, folder: Path):
        async with super().on(copy, folder) as running:
            yield running
        await copy.pool.execute(
            "update email_addresses set status = 'manual'"
            " where (account_id, id) = (select account_id, id from email_addresses"
            " where account_id = $1 and status = 'admin' limit 1)",
            copy.template.account_id,
        )


async def test_other_work_is_not_compared(
    templates: Templates, steps: Steps, tmp_path: Path
) -> None:
    """One address that is not as with the first contender ends it, and both are named."""
    both = (ONE_STATEMENT, Careless(key="careless", title="the careless one"))
    rounds = Rounds(templates, steps, tmp_path, both, contacts=300, rounds=1)
    with pytest.raises(EffectsDiffer, match=r"one SQL statement and the careless one") as caught:
        await rounds.run()
    assert "addresses manual" in str(caught.value)


async def test_what_is_made_is_dropped(
    templates: Templates, servers: ServerUrls, steps: Steps, tmp_path: Path
) -> None:
    """No database is left over, also where a run is interrupted."""

    async def databases() -> set[str]:
        connection = await asyncpg.connect(servers.database_url)
        try:
            rows = await connection.fetch("select datname from pg_database")
            return {name for (name,) in rows if name.startswith(f"sluice_bench_{os.getpid()}_")}
        finally:
            await connection.close()

    class Interrupted(OneStatement):
        @asynccontextmanager
        async def on(self, *_: Any):
            raise asyncio.CancelledError
            yield

    rounds = Rounds(templates, steps, tmp_path, [Interrupted()], contacts=50, rounds=1)
    with pytest.raises(asyncio.CancelledError):
        await rounds.run()
    assert len(await databases()) == 1
    await templates.close()
    assert await databases() == set()


@pytest.mark.parametrize("contacts", [1, 99, 300, 1_001, 20_501])
async def test_mixed_lists_keep_the_invariants(pool: asyncpg.Pool, contacts: int) -> None:
    """Whatever the size, a list is one that the service could have made."""
    account_id = await create_account(pool, "mixed")
    await lists.fill_mixed(pool, account_id, contacts)
    await pool.execute("analyze")
    async with pool.acquire() as connection:
        for invariant in INVARIANTS:
            found = await check_invariant(connection, invariant, shared_address_limit=10)
            assert found.violations == 0, (invariant.claim, found)


def test_a_quick_look_keeps_nothing() -> None:
    """Only everything, with all rounds, goes into the results and the documents."""
    options = program._options
    assert program.is_whole(options([]))
    assert program.is_whole(options(["--rounds", "7"]))
    assert not program.is_whole(options(["--rounds", "1"]))
    assert not program.is_whole(options(["--contacts", "1000000"]))
    assert not program.is_whole(options(["--only", "one_statement"]))


def test_rounds_begin_with_another_contender_each() -> None:
    """So that none always comes first, or after the same other."""
    assert [rounds_of(n) for n in range(4)] == [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]


def rounds_of(number: int) -> list[int]:
    return rotated([1, 2, 3], number)
