"""The storm's checks see what was lost, and what was changed behind the service's back."""

from collections.abc import Callable

import asyncpg
import pytest

from chaos import checks
from chaos.observer import Observer
from chaos.records import AcknowledgedJob, AcknowledgedOptOut, Records, Violation
from chaos.report import Outcome
from producers.opt_outs import opt_out_now
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.worlds import fill, make_account

Check = Callable[[], object]


@pytest.fixture
async def records(pool: asyncpg.Pool, settings: Settings) -> Records:
    """One recipient's opt-out, acknowledged."""
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
    job_id = (await opt_out_now(pool, settings, request)).job_id
    address_id = await pool.fetchval("select id from email_addresses")
    return Records(
        jobs=[AcknowledgedJob(job_id, "shop", "one")],
        opt_outs=[AcknowledgedOptOut(job_id, 1, 1, address_id)],
    )


async def verdict(pool: asyncpg.Pool, records: Records) -> Outcome:
    names, found = await checks.check_database(Observer(pool), records)
    work = {"jobs": 1, "addresses": 1}
    return Outcome(7, 5, [], [], checks.tally(names, found), work, {})


def violated(outcome: Outcome) -> set[str]:
    return {check.name for check in outcome.checks if check.violations}


async def test_what_was_kept_violates_nothing(pool: asyncpg.Pool, records: Records):
    """An undisturbed opt-out passes every check, and the storm ends with exit status 0."""
    outcome = await verdict(pool, records)
    assert violated(outcome) == set()
    assert outcome.exit_status() == 0
    assert outcome.last_line() == "chaos: seed=7 faults=0 jobs=1 addresses=1 violations=0"


async def test_a_status_changed_behind_the_back_is_seen(pool: asyncpg.Pool, records: Records):
    """An opt-out undone without a trace breaks a check of the storm and the service's own ledger,
    and the storm ends with exit status 1.
    """
    await pool.execute("update email_addresses set status = 'confirmed', previous_status = null")
    outcome = await verdict(pool, records)
    assert checks.KEPT_OPT_OUTS in violated(outcome)
    assert len(violated(outcome)) > 1
    assert outcome.exit_status() == 1
    assert outcome.last_line().endswith(f" violations={outcome.violations}")


async def test_a_lost_job_is_seen(pool: asyncpg.Pool, records: Records):
    """A job that was acknowledged and is not there, or stands under another key."""
    records.jobs += [AcknowledgedJob(4711, "shop", "two")]
    assert violated(await verdict(pool, records)) == {checks.KEPT_JOBS}


async def test_an_opt_out_without_a_result_is_seen(pool: asyncpg.Pool, records: Records):
    """The address is opted out, but not by the job that was acknowledged for it."""
    first = records.opt_outs[0]
    records.opt_outs += [first._replace(field=2)]
    assert violated(await verdict(pool, records)) == {checks.KEPT_OPT_OUTS}


async def test_an_internal_error_of_a_faultless_contact_is_seen(
    pool: asyncpg.Pool, records: Records
):
    """Only contacts that the storm made faulty may end so."""
    address_id = records.opt_outs[0].address_id
    await pool.execute(
        "insert into results (job_id, chunk_no, contact_id, field, address_id, outcome, reason)"
        " values ($1, 1, 1, 3, $2, 'rejected', 'internal_error')",
        records.jobs[0].job_id,
        address_id,
    )
    assert checks.ONLY_FAULTY in violated(await verdict(pool, records))
    records.faulty.add(1)
    assert checks.ONLY_FAULTY not in violated(await verdict(pool, records))


def test_what_producers_saw_counts():
    """A violation that was seen during the storm is in the table, with how often."""
    seen = [Violation("a paused job changes nothing", "job 5", 3)]
    tallied = {check.name: check.violations for check in checks.tally([], seen)}
    assert tallied["a paused job changes nothing"] == 3
    assert sum(tallied.values()) == 3
