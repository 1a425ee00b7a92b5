"""Contacts that cannot be processed: only they are rejected, and all others are done."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.code_copy import code_with
from tests.kit.factories import fill, make_account, statuses_of
from tests.kit.job_requests import FAST_RECOVERY, submit_account_job, wait_for_state
from tests.kit.submitting import submit_job
from tests.kit.waiting import wait_until_async
from tests.kit.worker_group import WorkerGroup

TRIPPING = """
'''Confirm addresses, but fail on one status.'''

import os
import signal

from actions.bulk_action import BulkAction, Params
from schemas.decisions import Decision, AddressState, apply
from schemas.statuses import Status


class Trip(BulkAction):
    name = "trip"
    summary = "Confirm addresses, and trip over one status."

    def decide(self, state: AddressState, params: Params) -> Decision:
        if state.status == Status.LOCKDOWN:
            FALL
        return apply(Status.CONFIRMED)
"""
RAISING = TRIPPING.replace("FALL", 'raise RuntimeError("it trips over this one")')
DYING = TRIPPING.replace("FALL", "os.kill(os.getpid(), signal.SIGKILL)")

CONTACTS = {n: {1: f"a{n}@example.com"} for n in range(1, 9)}
POISONED = 5
STATUSES = {f"a{n}@example.com": ("non_marketable", False) for n in CONTACTS} | {
    f"a{POISONED}@example.com": ("lockdown", False)
}


async def submit_trip(settings: Settings, code: Path) -> int:
    """Submit the job with the command line of the code that has the action."""
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "cli", "submit", "trip", "--all"),
            *("--field", "email1", "--account", "poisoned", "--json"),
        ],
        cwd=code,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(code),
            "DATABASE_URL": settings.database_url or "",
            "REDIS_URL": settings.redis_url or "",
            "QUEUE_NAMESPACE": settings.queue_namespace,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["job_id"]


async def attempts_of(pool: asyncpg.Pool, job_id: int) -> dict[int, int]:
    """Return the attempts counted so far by chunk."""
    return dict(
        await pool.fetch("select chunk_no, attempts from job_chunks where job_id = $1", job_id)
    )


async def assert_only_poisoned_rejected(
    pool: asyncpg.Pool, account_id: int, job_id: int, *, error: str
) -> None:
    """Assert that only the poisoned contact was rejected, with this error text."""
    rows = await pool.fetch("select * from rejections where job_id = $1", job_id)
    assert [(row["contact_id"], row["reason"]) for row in rows] == [(POISONED, "internal_error")]
    assert error in rows[0]["error"]
    job = await pool.fetchrow("select * from jobs where id = $1", job_id)
    assert (job["selected"], job["applied"], job["rejected"]) == (8, 7, 1)
    assert await statuses_of(pool, account_id) == {
        address: (status, False) if status == "lockdown" else ("confirmed", False)
        for address, (status, _) in STATUSES.items()
    }


async def test_a_decision_that_raises_rejects_one_contact(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup, tmp_path: Path
):
    """An action that raises for one contact rejects it with an internal error and the error's text.
    All other contacts of its chunk are done. Each failure is logged with its place in the code and
    the next step.
    """
    account_id = await make_account(pool, "poisoned")
    await fill(pool, account_id, CONTACTS, STATUSES)
    code = code_with("trip", RAISING, tmp_path)
    group = start_group(code=code, CHUNK_SIZE="8", **FAST_RECOVERY)
    job_id = await submit_trip(settings, code)
    await wait_for_state(pool, job_id, "completed")
    await assert_only_poisoned_rejected(
        pool, account_id, job_id, error="RuntimeError: it trips over this one"
    )
    failed = [attempts for attempts in (await attempts_of(pool, job_id)).values() if attempts]
    # Only the chunks of eight, four, two and one that contained the contact have failed.
    assert len(failed) == 4
    assert max(failed) == 3
    failures = [line for line in map(json.loads, group.lines()) if line["event"] == "chunk.failed"]
    by_chunk = {facts["chunk"]: [] for facts in failures}
    for facts in failures:
        by_chunk[facts["chunk"]].append((facts["attempt"], facts["next_step"]))
        assert facts["location"].startswith("at actions/trip.py:")
        assert (facts["retry_in_seconds"] is not None) == (facts["next_step"] == "retry")
    ends = ["split", "split", "split", "rejected"]
    assert list(by_chunk.values()) == [[(1, "retry"), (2, "retry"), (3, end)] for end in ends]


async def test_attempts_survive_kills(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup, tmp_path: Path
):
    """SIGKILL of all workers between attempts resets no count: a chunk's attempts only grow, to
    three at most. A kill during an attempt may add a fourth, since the chunk may have caused it.
    """
    account_id = await make_account(pool, "poisoned")
    await fill(pool, account_id, CONTACTS, STATUSES)
    code = code_with("trip", RAISING, tmp_path)
    # Enough time between attempts to kill the workers there.
    slow_retries = FAST_RECOVERY | {"RETRY_SECONDS": "0.5", "CHUNK_SIZE": "8"}
    group = start_group(code=code, **slow_retries)
    job_id = await submit_trip(settings, code)
    seen: dict[int, int] = {}

    async def more_than(total: int) -> bool:
        now = await attempts_of(pool, job_id)
        assert all(now[chunk] >= attempts for chunk, attempts in seen.items())
        seen.update(now)
        return sum(now.values()) > total

    for kills in range(3):
        total = sum(seen.values())
        await wait_until_async(
            lambda total=total: more_than(total),
            deadline_seconds=60,
            what=f"an attempt after {kills} kills",
        )
        await asyncio.to_thread(group.kill)
        assert await more_than(total)
        group = await asyncio.to_thread(start_group, code=code, **slow_retries)
    await wait_for_state(pool, job_id, "completed")
    await more_than(0)
    assert 3 <= max(seen.values()) <= 4
    assert sum(seen.values()) <= 3 * len(seen) + kills + 1
    await assert_only_poisoned_rejected(
        pool, account_id, job_id, error="RuntimeError: it trips over this one"
    )


async def test_a_decision_that_kills_its_process_rejects_one_contact(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup, tmp_path: Path
):
    """A contact that kills each worker process is rejected, and restarted workers do all others.
    For a chunk of eight this costs six processes: see `lost_chunks`. Each loss is logged with the
    chunk that the worker held.
    """
    account_id = await make_account(pool, "poisoned")
    await fill(pool, account_id, CONTACTS, STATUSES)
    code = code_with("trip", DYING, tmp_path)

    def start() -> WorkerGroup:
        return start_group(code=code, CHUNK_SIZE="8", **FAST_RECOVERY)

    groups = [start()]
    job_id = await submit_trip(settings, code)
    losses = 0

    async def completed_or_lost() -> str | None:
        if await pool.fetchval("select state = 'completed' from jobs where id = $1", job_id):
            return "completed"
        return "lost" if not groups[-1].workers() else None

    while (
        await wait_until_async(
            completed_or_lost, deadline_seconds=60, what="the job is done, or its worker lost"
        )
        == "lost"
    ):
        losses += 1
        assert losses <= 20
        await asyncio.to_thread(groups[-1].kill)
        groups.append(await asyncio.to_thread(start))
    assert losses == 6
    await assert_only_poisoned_rejected(pool, account_id, job_id, error="workers were lost")
    logged = [
        (facts["job"], facts["account"], facts["action"], facts["chunk"], facts["level"])
        for group in groups
        for facts in map(json.loads, group.lines())
        if facts["event"] == "worker.lost"
    ]
    chunks = await lost_chunks(pool, job_id)
    assert logged == [(job_id, account_id, "trip", chunk, "warning") for chunk in chunks]


async def lost_chunks(pool: asyncpg.Pool, job_id: int) -> list[int]:
    """Return the number of each chunk with the poisoned contact, once for each worker it loses.

    The first chunk and the contact alone lose two workers; each chunk in between loses one.
    """
    rows = await pool.fetch(
        "select chunk_no, cardinality(item_ids) as contacts from job_chunks"
        " where job_id = $1 and $2 = any(item_ids) order by chunk_no",
        *(job_id, POISONED),
    )
    return [row["chunk_no"] for row in rows for _ in range(2 if row["contacts"] in {1, 8} else 1)]


async def refuse_writes_of_a5(pool: asyncpg.Pool) -> None:
    """Make every write that changes the status of a5@example.com fail."""
    await pool.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'this one never works'; end $$"
    )
    await pool.execute(
        "create trigger poison before insert or update on email_addresses for each row"
        " when (new.match_key = 'a5@example.com' and new.status <> 'non_marketable')"
        " execute function refuse()"
    )


@pytest.mark.parametrize("action", ["opt_out", "import"])
async def test_a_contact_that_cannot_be_written_is_rejected(
    action: str, pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """A write that fails in Postgres rejects only that contact, with an internal error and the
    error's text. Its chunk is split until the contact is alone.
    """
    account_id = await make_account(pool, "poisoned")
    await refuse_writes_of_a5(pool)
    start_group(CHUNK_SIZE="8", **FAST_RECOVERY)
    if action == "opt_out":
        await fill(
            pool,
            account_id,
            {n: {1: f"a{n}@example.com"} for n in range(10, 20)} | {5: {1: "a5@example.com"}},
            {f"a{n}@example.com": ("non_marketable", False) for n in (5, *range(10, 20))},
        )
        job_id = await submit_account_job(pool, settings, "poisoned", "opt_out", "email1")
        params = None
    else:
        rows = "".join(f"a{n}@example.com\n" for n in (*range(10, 20), 5))
        params = {"permission": True}
        job_id = await submit_job(
            pool, settings, "poisoned", "import", f"Email\n{rows}".encode(), None, params
        )
    await wait_for_state(pool, job_id, "completed")
    job = await pool.fetchrow("select * from jobs where id = $1", job_id)
    assert (job["applied"], job["rejected"]) == (10, 1)
    refused = await pool.fetch("select * from rejections where job_id = $1", job_id)
    assert [row["reason"] for row in refused] == ["internal_error"]
    assert "this one never works" in refused[0]["error"]
    statuses = await statuses_of(pool, account_id)
    if action == "import":
        assert "a5@example.com" not in statuses
        line = await pool.fetchrow("select line, reason from import_rejections")
        assert tuple(line) == (12, "internal_error")
    else:
        assert statuses["a5@example.com"] == ("non_marketable", False)
        attempts = await pool.fetchval(
            "select attempts from job_chunks where job_id = $1 and error is not null"
            " and state = 'done'",
            job_id,
        )
        assert attempts == 3
