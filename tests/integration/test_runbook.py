"""The SQL statements in the runbook do what the runbook says."""

import re
from pathlib import Path

import asyncpg
import pytest

from db import job_progress
from engine.chunk_runner import ChunkRunner
from engine.planner import plan_job
from runtime.settings import Settings
from tests.kit.factories import fill, key_of, statuses_of
from tests.kit.submitting import submit_job

RUNBOOK = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
STATEMENTS = re.findall(r"^ *```sql\n(.*?)```", RUNBOOK, re.MULTILINE | re.DOTALL)
LIMIT_RAISED = next(
    sql
    for sql in STATEMENTS
    if "person_count(a.contact_count, a.repeat_count) between 11 and 20" in sql
)


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_every_statement_runs(pool: asyncpg.Pool, statement: str) -> None:
    """Each statement runs on the current schema."""
    await pool.fetch(statement)


async def test_opting_out_again_propagates_after_the_limit_was_raised(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """An address that was a role address is opted out again, and the opt-out is propagated to its
    siblings. A propagated opt-out does not become one in its own right, and all other addresses
    keep their status.
    """
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    assert account_id == 1
    contacts = {n: {1: "shared@example.com", 2: f"own{n}@example.com"} for n in range(1, 13)}
    contacts[13] = {1: "other@example.com", 2: "own13@example.com"}
    contacts[14] = {1: "reached@example.com", 2: "own14@example.com"}
    statuses = {f"own{n}@example.com": ("single_opt_in", False) for n in range(1, 15)}
    statuses["shared@example.com"] = ("manual", False)
    statuses["other@example.com"] = ("single_opt_in", False)
    statuses["reached@example.com"] = ("admin", True)
    await fill(pool, account_id, contacts, statuses)

    found = [row["contact_id"] for row in await pool.fetch(LIMIT_RAISED)]
    job_id = await submit_job(pool, settings, "default", "opt_out", found, [1], {"note": "raised"})
    await run_job(pool, job_id, role_address_limit=20)

    expected = dict(statuses)
    expected |= {f"own{n}@example.com": ("admin", True) for n in range(1, 13)}
    assert await statuses_of(pool, account_id) == expected


async def run_job(pool: asyncpg.Pool, job_id: int, *, role_address_limit: int) -> None:
    """Do the job in this process with this limit."""
    async with pool.acquire() as connection:
        await plan_job(connection, await key_of(pool, job_id), chunk_size=5, max_lanes=1)
        job = await job_progress.get_job_to_work(connection, await key_of(pool, job_id))
        assert job is not None
        runner = ChunkRunner.for_job(job, role_address_limit=role_address_limit, worker="test")
        while await runner.run_next(connection):
            pass
        assert await job_progress.complete_job(connection, await key_of(pool, job_id)) is not None
