"""The comparison of `make bench` runs to its end, and rejects different work."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bench import __main__ as program
from bench import lists, single_opt_outs
from bench.contenders import ONE_STATEMENT, Contender
from bench.effects import EffectsDiffer
from bench.goals import read_goals
from bench.locks import watch_locks
from bench.plan import plan_of
from bench.rounds import rotated, run_rounds
from bench.samples import Samples
from bench.session import Environment, Sizes
from bench.templates import Copy, Templates
from db.invariants import INVARIANTS, check_invariant
from producers.accounts import create_account
from runtime.devservers.embedded import ServerUrls

ONLY = ("one_statement", "sluice_2")
TINY = Sizes.quick(300)._replace(
    passes=1, import_rows=50, small_jobs=2, http_opt_outs=50, seconds=1
)


@pytest.fixture
async def environment(servers: ServerUrls, tmp_path: Path) -> AsyncIterator[Environment]:
    """Return the environment of a tiny session that prints nothing."""
    templates = Templates(servers, lambda _text: None)
    yield Environment(templates, tmp_path, TINY, Samples(), lambda _text: None)
    await templates.close()


async def test_the_plan_has_a_figure_for_each_goal(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny round of one statement and Sluice measures everything that needs no
    other contender.
    """
    monkeypatch.setattr(single_opt_outs, "MAX_SECONDS", 1.0)
    monkeypatch.setattr(single_opt_outs, "CONNECTIONS", 4)
    await plan_of(ONLY, large=False)(environment)
    samples = environment.samples
    unmeasured = {goal.sample for goal in read_goals() if goal.judge(samples) is None}
    assert {name for name in unmeasured if "huge" not in name} == {
        "addresses a second/large/opt_in/sluice_1",
        "addresses a second/middle/opt_in/sluice_2",
    }
    for action in ("opt_in", "opt_out"):
        for key in ONLY:
            assert f"bytes per address: wal/middle/{action}/{key}" in samples
            assert f"single opt-outs, ms: longest row lock/{action}/{key}" in samples
    assert len(samples["longest of both jobs, ms: row lock/sluice_2"]) == TINY.passes


async def test_the_longest_lock_is_measured(environment: Environment) -> None:
    """The longest lock is measured as at least as long as it was held, and little longer."""
    async with (
        environment.copy("tiny") as copy,
        watch_locks(copy) as locks,
        copy.pool.acquire() as connection,
    ):
        await asyncio.sleep(0.05)
        async with connection.transaction():
            await connection.execute("select from email_addresses limit 1 for no key update")
            await connection.execute("select pg_sleep(0.3)")
        assert locks == []
    assert 300 <= locks[0] < 3_000


def careless() -> Contender:
    """Return a contender that marks one opt-out as the recipient's own after the jobs."""

    @asynccontextmanager
    async def start(copy: Copy, folder: Path):
        async with ONE_STATEMENT.start(copy, folder) as running:
            yield running
        await copy.pool.execute(
            "update email_addresses set status = 'manual'"
            " where (account_id, id) = (select account_id, id from email_addresses"
            " where account_id = $1 and status = 'admin' limit 1)",
            copy.template.account_id,
        )

    return Contender("careless", "the careless one", start)


async def test_different_work_is_rejected(environment: Environment) -> None:
    """One address that differs from the first contender's run ends the comparison, which names
    both.
    """
    both = (ONE_STATEMENT, careless())
    with pytest.raises(EffectsDiffer, match=r"one SQL statement and the careless one") as caught:
        await run_rounds(environment, "middle", both, ("opt_in", "opt_out"), rounds=1)
    assert "addresses manual" in str(caught.value)


async def test_databases_are_dropped(environment: Environment, servers: ServerUrls) -> None:
    """No database is left behind, even if a run is interrupted."""

    async def databases() -> set[str]:
        connection = await asyncpg.connect(servers.database_url)
        try:
            rows = await connection.fetch("select datname from pg_database")
            return {name for (name,) in rows if name.startswith(f"sluice_bench_{os.getpid()}_")}
        finally:
            await connection.close()

    @asynccontextmanager
    async def interrupted(*_: Any):
        raise asyncio.CancelledError
        yield

    contenders = [Contender("interrupted", "interrupted", interrupted)]
    with pytest.raises(asyncio.CancelledError):
        await run_rounds(environment, "tiny", contenders, ("opt_in",), rounds=1)
    assert len(await databases()) == 1
    await environment.templates.close()
    assert await databases() == set()


@pytest.mark.parametrize("contacts", [1, 99, 300, 1_001, 20_501])
async def test_mixed_lists_keep_the_invariants(pool: asyncpg.Pool, contacts: int) -> None:
    """A list of any size is in a state that the service could have produced."""
    account_id = await create_account(pool, "mixed")
    await lists.fill(pool, account_id, contacts, mixed=True)
    await pool.execute("analyze")
    async with pool.acquire() as connection:
        for invariant in INVARIANTS:
            found = await check_invariant(connection, invariant, role_address_limit=10)
            assert found.violations == 0, (invariant.claim, found)


@pytest.mark.parametrize(
    ("arguments", "complete"),
    [
        ([], True),
        (["--rounds", "7"], True),
        (["--rounds", "1"], False),
        (["--contacts", "1000000"], False),
        (["--only", "one_statement"], False),
        (["--large"], True),
        (["--large", "--contacts", "100"], False),
    ],
)
def test_a_quick_look_keeps_nothing(arguments: list[str], *, complete: bool) -> None:
    """Only a complete run with all rounds updates the results and the documents."""
    assert program.is_complete(program.parse(arguments)) is complete


def test_each_round_begins_with_another_contender() -> None:
    """No contender always comes first or after the same other one."""
    orders = [rotated([1, 2, 3], number) for number in range(4)]
    assert orders == [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]
