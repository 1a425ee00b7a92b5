"""The checks of a chaos run find lost data and changes that bypass the service."""

import asyncio
import sys
from collections.abc import Callable

import asyncpg
import psutil
import pytest

from producers.immediate_opt_out import opt_out_immediately
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.chaos import checks
from tests.chaos.acknowledgements import AcknowledgedJob, AcknowledgedOptOut, Records, Violation
from tests.chaos.idle_checks import IDLE, NO_LANE_HELD, check_idle
from tests.chaos.observer import Observer
from tests.chaos.report import ChaosReport
from tests.kit.factories import fill, make_account
from tests.kit.submitting import submit_planned_opt_out
from tests.kit.waiting import wait_until_async

Check = Callable[[], object]


@pytest.fixture
async def records(pool: asyncpg.Pool, settings: Settings) -> Records:
    """Acknowledge one recipient's opt-out, and return the records of it."""
    account_id = await make_account(pool, "shop")
    await fill(pool, account_id, {1: {1: "ada@example.com"}}, {"ada@example.com": ("confirmed", 0)})
    request = JobRequest(
        account="shop",
        action="opt_out",
        selection=Selection(contacts=(1,)),
        params={"kind": "manual"},
        requested_by="recipient",
        idempotency_key="one",
    )
    job_id = (await opt_out_immediately(pool, settings, request)).job_id
    address_id = await pool.fetchval("select id from email_addresses")
    return Records(
        jobs=[AcknowledgedJob(job_id, "shop", "one")],
        opt_outs=[AcknowledgedOptOut(job_id, 1, 1, address_id)],
    )


async def run_checks(pool: asyncpg.Pool, records: Records) -> ChaosReport:
    """Run all checks of a chaos run on the database with these acknowledgements."""
    names, found = await checks.check_database(Observer(pool), records)
    work = {"jobs": 1, "addresses": 1}
    return ChaosReport(7, 5, [], [], checks.count_violations(names, found), work, {})


def violated_checks(outcome: ChaosReport) -> set[str]:
    """Return the names of the checks with violations."""
    return {check.name for check in outcome.checks if check.violations}


async def test_intact_data_violates_nothing(pool: asyncpg.Pool, records: Records):
    """An undisturbed opt-out passes every check, and the exit status is 0."""
    outcome = await run_checks(pool, records)
    assert violated_checks(outcome) == set()
    assert outcome.exit_status() == 0
    assert outcome.last_line() == "chaos: seed=7 faults=0 jobs=1 addresses=1 violations=0"


async def test_a_status_changed_without_a_result_is_found(pool: asyncpg.Pool, records: Records):
    """An opt-out undone without a result violates a check and an invariant, and the exit status is
    1.
    """
    await pool.execute("update email_addresses set status = 'confirmed', previous_status = null")
    outcome = await run_checks(pool, records)
    assert checks.KEPT_OPT_OUTS in violated_checks(outcome)
    assert len(violated_checks(outcome)) > 1
    assert outcome.exit_status() == 1
    assert outcome.last_line().endswith(f" violations={outcome.violations}")


async def test_a_lost_job_is_found(pool: asyncpg.Pool, records: Records):
    """An acknowledged job that is missing, or has another key, violates a check."""
    records.jobs += [AcknowledgedJob(4711, "shop", "two")]
    assert violated_checks(await run_checks(pool, records)) == {checks.KEPT_JOBS}


async def test_a_job_of_merged_events_is_found_by_their_keys(pool: asyncpg.Pool, records: Records):
    """Events merged into one job are found by their own keys. An event that nobody sent is a
    violation.
    """
    [job] = records.jobs
    records.jobs = [AcknowledgedJob(job.job_id, "shop", "event one")]
    add = (
        "insert into merged_events (account_id, idempotency_key, request_hash, job_id)"
        " select account_id, $2, '', id from jobs where id = $1"
    )
    await pool.execute(add, job.job_id, "event one")
    assert violated_checks(await run_checks(pool, records)) == set()
    await pool.execute(add, job.job_id, "event two")
    assert violated_checks(await run_checks(pool, records)) == {checks.ASKED_FOR}


async def test_an_opt_out_without_a_result_is_found(pool: asyncpg.Pool, records: Records):
    """An address opted out by another job than the acknowledged one is a violation."""
    first = records.opt_outs[0]
    records.opt_outs += [first._replace(field=2)]
    assert violated_checks(await run_checks(pool, records)) == {checks.KEPT_OPT_OUTS}


async def test_an_internal_error_of_a_faultless_contact_is_found(
    pool: asyncpg.Pool, records: Records
):
    """Only contacts made faulty by a fault may end with an internal error."""
    address_id = records.opt_outs[0].address_id
    await pool.execute(
        "insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id,"
        " outcome, reason)"
        " select account_id, id, 1, 1, 1, 3, $2, 'rejected', 'internal_error' from jobs where id"
        " = $1",
        records.jobs[0].job_id,
        address_id,
    )
    assert checks.ONLY_FAULTY in violated_checks(await run_checks(pool, records))
    records.faulty.add(1)
    assert checks.ONLY_FAULTY not in violated_checks(await run_checks(pool, records))


def test_violations_seen_by_producers_are_counted():
    """A violation that a producer saw is counted in the table."""
    seen = [Violation("a paused job changes nothing", "job 5", 3)]
    tallied = {check.name: check.violations for check in checks.count_violations([], seen)}
    assert tallied["a paused job changes nothing"] == 3
    assert sum(tallied.values()) == 3


async def test_lanes_that_are_not_idle_are_found(pool: asyncpg.Pool, settings: Settings):
    """A lane that is held repeatedly without work violates a check; an unchanged lane does not."""
    await submit_planned_opt_out(pool, settings, "restless", contacts=2, lanes=1)
    assert await check_idle(Observer(pool), [], seconds=0.1, patience=0) == []

    async def hold_repeatedly() -> None:
        while True:
            await pool.execute("update job_lanes set token = token + 1")
            await asyncio.sleep(0.01)

    holder = asyncio.create_task(hold_repeatedly())
    found = await check_idle(Observer(pool), [], seconds=0.3, patience=0)
    holder.cancel()
    assert {violation.check for violation in found} == {NO_LANE_HELD}


async def test_a_busy_process_without_work_is_found(pool: asyncpg.Pool):
    """A worker process that uses a core without work violates a check; a sleeping one does not."""
    busy = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    asleep = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import time; time.sleep(60)"
    )
    try:
        workers = [psutil.Process(busy.pid), psutil.Process(asleep.pid)]
        # Wait until it has started. Its share of a core depends on the other programs.
        await wait_until_async(
            lambda: workers[0].cpu_times().user > 0.2, deadline_seconds=20, what="it is busy"
        )
        found = await check_idle(
            Observer(pool), workers, seconds=1.0, patience=0, max_core_share=0.03
        )
    finally:
        for process in (busy, asleep):
            process.kill()
            await process.wait()
    assert [violation.check for violation in found] == [IDLE]
    assert str(busy.pid) in found[0].what
