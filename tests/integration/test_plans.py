"""A job does what its plan forecast, and a plan that has drifted does not run."""

from collections import Counter

import asyncpg
import pytest
from hypothesis import strategies as st

from db import forecasting, jobs
from db.pool import open_pool
from engine.planner import forecast_job, plan_job
from producers import control
from producers.plans import apply_plan
from producers.submit import submit
from runtime.settings import Settings
from schemas.errors import IdempotencyConflict, InvalidRequest, NotFound, StateConflict
from schemas.job_key import JobKey
from schemas.outcomes import JobState
from schemas.requests import FIELD_NAMES, JobRequest, Selection
from tests.kit.factories import account_of, make_account, statuses_of
from tests.kit.in_process import InProcessRunner
from tests.kit.model_comparison import (
    ADDRESSES,
    LIMIT,
    ModelComparison,
    link_lists,
    read_counts,
    selecting_jobs,
    start_statuses,
)
from tests.kit.property_examples import check_property
from tests.kit.submitting import EVIDENCE, selection_arguments

NOT_MARKETABLE = [("non_marketable", False)] * len(ADDRESSES)
TWICE_ON_ONE_CONTACT = (
    [{1: ADDRESSES[0], 2: ADDRESSES[0], 3: ADDRESSES[1]}],
    NOT_MARKETABLE,
    [("opt_in", [0], [1, 2], None), ("opt_out", [0], [2], "manual")],
    1,
)
SIBLING_TWICE_ON_ONE_CONTACT = (
    [{1: ADDRESSES[0], 2: ADDRESSES[1], 3: ADDRESSES[1]}],
    NOT_MARKETABLE,
    [("opt_out", [0], [1], "manual")],
    1,
)
"""Cases that generated examples rarely cover."""


class PlanDriver:
    """A driver for jobs that are planned first, and run once their forecast has been confirmed."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, chunk_size: int) -> None:
        self.pool = pool
        self.settings = settings
        self.chunk_size = chunk_size
        self.work = InProcessRunner(pool, settings, chunk_size=chunk_size, parallel=1).work

    async def submit(self, account, action, what, fields, params) -> int:
        """Submit the job as a plan, and return its id."""
        request = JobRequest(
            account=account,
            action=action,
            **selection_arguments(what, fields),
            params=params,
            evidence=EVIDENCE if action == "opt_in" else None,
            requested_by="test",
            plan_first=True,
        )
        return (await submit(self.pool, self.settings, request)).job_id

    async def count(self, job_id: int) -> JobState | None:
        """Plan the job and count its forecast; return the job's new state."""
        account_id = await account_of(self.pool, job_id)
        async with self.pool.acquire() as connection:
            await plan_job(
                connection, JobKey(account_id, job_id), chunk_size=self.chunk_size, max_lanes=1
            )
            return await forecast_job(
                connection,
                self.pool,
                JobKey(account_id, job_id),
                chunk_size=self.chunk_size,
                role_address_limit=LIMIT,
            )

    async def job(self, job_id: int) -> jobs.Job:
        """Return the job, which must exist."""
        async with self.pool.acquire() as connection:
            found = await jobs.get_job(connection, job_id)
        assert found is not None
        return found

    async def apply(self, job_id: int, expected, tolerance=0) -> JobState:
        """Confirm the plan with these counts; return the job's state."""
        job = await self.job(job_id)
        return await apply_plan(
            self.pool,
            self.settings,
            job.key,
            expected=expected,
            tolerance=tolerance,
            confirmed_by="test",
        )


class ForecastRunner(PlanDriver):
    """A runner for comparisons, which also asserts that each job does what its forecast said."""

    async def __call__(self, account, action, what, fields, params) -> int:
        """Run the job as a plan. Assert that forecasting changes nothing and is exact."""
        before = await read_protected_rows(self.pool)
        job_id = await self.submit(account, action, what, fields, params)
        assert await self.count(job_id) is JobState.PLANNED
        assert await read_protected_rows(self.pool) == before
        forecast = (await self.job(job_id)).forecast
        assert await self.apply(job_id, confirmed_counts(forecast)) is JobState.PLANNING
        assert await self.count(job_id) is JobState.RUNNING
        job = await self.job(job_id)
        statuses = await statuses_of(self.pool, job.account_id)
        await self.work(job_id)
        await self.compare(job, forecast, statuses)
        return job_id

    async def compare(self, job, forecast, before) -> None:
        """Assert that the job did what it forecast, in total and by field."""
        actual = await read_counts(self.pool, job.id)
        reasons = {f"{outcome}:{reason}": n for (outcome, reason), n in actual.items() if reason}
        assert forecast["reasons"] == reasons
        by_outcome = Counter()
        for (outcome, _), number in actual.items():
            by_outcome[outcome] += number
        for outcome in ("applied", "unchanged", "rejected", "empty"):
            assert forecast[outcome] == by_outcome[outcome], outcome
        assert forecast["selected"] == by_outcome.total()
        rows = await self.pool.fetch(
            "select field, outcome, count(*) as rows from results"
            " where job_id = $1 and cause = 'direct' group by 1, 2",
            job.id,
        )
        by_field = {FIELD_NAMES[n]: Counter() for n in job.fields}
        for row in rows:
            by_field[FIELD_NAMES[row["field"]]][row["outcome"]] = row["rows"]
        for name, counted in by_field.items():
            expected_counts = {
                k: forecast["fields"][name][k] for k in ("applied", "unchanged", "rejected")
            }
            assert expected_counts == {k: counted[k] for k in expected_counts}, name
        after = await statuses_of(self.pool, job.account_id)
        direct = {
            row["match_key"]
            for row in await self.pool.fetch(
                "select distinct a.match_key from results r join email_addresses a"
                " on a.id = r.address_id where r.job_id = $1 and r.cause = 'direct'",
                job.id,
            )
        }
        changed = {a for a, status in after.items() if before.get(a) != status}
        assert forecast["propagated"] == len(changed - direct)


async def read_protected_rows(pool: asyncpg.Pool) -> list[asyncpg.Record]:
    """Return everything that planning must not change."""
    return [
        await pool.fetch(f"select * from {table} as whole order by whole::text")
        for table in ("email_addresses", "contact_emails", "results")
    ]


def confirmed_counts(forecast) -> dict[str, int]:
    """Return the counts with which the forecast is confirmed."""
    return {name: forecast[name] for name in ("applied", "unchanged", "rejected", "propagated")}


async def test_a_job_does_what_its_plan_forecast(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """For opt-ins, opt-outs of every kind and lists of addresses, the counts by outcome, reason and
    field equal the forecast. So does the number of propagated changes, and forecasting changes
    nothing. This holds for lists that have drifted apart too.
    """
    # Split a handful of contacts into several slices, as it happens otherwise only with millions.
    monkeypatch.setattr("engine.forecaster.CONTACTS_PER_STATEMENT", 2)
    async with await open_pool(database_url, size=4) as pool:

        async def check(contacts, statuses, steps, chunk_size) -> None:
            comparison = ModelComparison(pool, ForecastRunner(pool, settings, chunk_size))
            await comparison.begin(contacts, statuses)
            for step in steps:
                await comparison.apply(*step)

        await check_property(
            check,
            link_lists,
            start_statuses,
            selecting_jobs,
            st.integers(1, 4),
            max_examples=120,
            explicit_examples=[TWICE_ON_ONE_CONTACT, SIBLING_TWICE_ON_ONE_CONTACT],
        )


async def test_a_plan_that_has_drifted_waits_again(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """If the counts no longer match the confirmed ones, nothing changes and the job waits again,
    with the new counts and the drift. A confirmation of the new counts, or with enough tolerance,
    runs it.
    """
    driver = PlanDriver(pool, settings, 10)
    job_id = await driver.submit("shop", "opt_out", [1, 2, 3], [1], {})
    assert await driver.count(job_id) is JobState.PLANNED
    forecast = (await driver.job(job_id)).forecast
    assert confirmed_counts(forecast) == {
        "applied": 3,
        "unchanged": 0,
        "rejected": 0,
        "propagated": 1,
    }
    await pool.execute(
        "update email_addresses set status = 'manual', previous_status = 'non_marketable'"
        " where match_key = 'eve@example.com'"
    )
    before = await read_protected_rows(pool)
    assert await driver.apply(job_id, confirmed_counts(forecast)) is JobState.PLANNING
    assert await driver.count(job_id) is JobState.PLANNED
    assert await read_protected_rows(pool) == before
    job = await driver.job(job_id)
    assert job.confirmation["drift"] == {"applied": -1, "unchanged": 1}
    assert job.forecast["applied"] == 2
    assert job.confirmed_at is None
    assert await driver.apply(job_id, confirmed_counts(forecast), tolerance=1) is JobState.PLANNING
    assert await driver.count(job_id) is JobState.RUNNING
    job = await driver.job(job_id)
    assert job.confirmed_at is not None
    assert (job.confirmation["by"], job.confirmation["tolerance"]) == ("test", 1)
    assert "drift" not in job.confirmation


async def test_a_confirmation_is_checked(pool: asyncpg.Pool, settings: Settings, shop: int):
    """Missing or unknown counts, another account's job and a job that is not planned raise an
    error. The same confirmation sent twice changes nothing.
    """
    driver = PlanDriver(pool, settings, 10)
    job_id = await driver.submit("shop", "opt_out", [1], [1], {})
    expected = {"applied": 1, "unchanged": 0, "rejected": 0, "propagated": 1}
    with pytest.raises(StateConflict, match="planning"):
        await driver.apply(job_id, expected)
    assert await driver.count(job_id) is JobState.PLANNED
    for counts, message in (
        ({}, "applied is missing"),
        (expected | {"sorts": 1}, "sorts is unknown"),
        (expected | {"applied": -1}, "must not be negative"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            await driver.apply(job_id, counts)
    other = await make_account(pool, "other")
    with pytest.raises(NotFound):
        await apply_plan(
            pool, settings, JobKey(other, job_id), expected=expected, tolerance=0, confirmed_by="x"
        )
    assert await driver.apply(job_id, expected) is JobState.PLANNING
    assert await driver.apply(job_id, expected) is JobState.PLANNING
    assert await driver.count(job_id) is JobState.RUNNING
    assert await driver.apply(job_id, expected) is JobState.RUNNING
    with pytest.raises(StateConflict, match="running"):
        await driver.apply(job_id, expected | {"propagated": 2})


async def test_an_unconfirmed_plan_does_not_run_on_resume(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """Neither pausing and resuming nor an update in SQL runs a plan that nobody confirmed."""
    driver = PlanDriver(pool, settings, 10)
    job_id = await driver.submit("shop", "opt_out", [1], [1], {})
    await control.pause(pool, settings, shop, job_id)
    assert await control.resume(pool, settings, shop, job_id) is JobState.PLANNING
    assert await driver.count(job_id) is JobState.PLANNED
    with pytest.raises(StateConflict):
        await control.pause(pool, settings, shop, job_id)
    with pytest.raises(StateConflict):
        await control.resume(pool, settings, shop, job_id)
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute("update jobs set state = 'running' where id = $1", job_id)
    assert await control.cancel(pool, settings, shop, job_id) is JobState.CANCELLED


async def test_the_same_key_without_a_plan_is_another_request(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """A key used for a planned job cannot be reused for the same job without a plan."""
    request = JobRequest(
        account="shop",
        action="opt_out",
        selection=Selection(contacts=(1,)),
        requested_by="test",
        idempotency_key="once",
        plan_first=True,
    )
    first = await submit(pool, settings, request)
    assert (await submit(pool, settings, request)).job_id == first.job_id
    with pytest.raises(IdempotencyConflict):
        await submit(pool, settings, request.model_copy(update={"plan_first": False}))


async def test_a_failed_forecast_leaves_no_connection_in_use(
    database_url: str, settings: Settings, shop: int, monkeypatch: pytest.MonkeyPatch
):
    """If one of two connections fails, both are returned to the pool, once the other has finished.
    The next call then counts the job.
    """
    monkeypatch.setattr("engine.forecaster.CONTACTS_PER_STATEMENT", 1)
    count_held_once = forecasting.count_held_once
    calls = []

    async def failing(connection, job, *, first, last):
        calls.append(first)
        if len(calls) == 2:
            raise ConnectionResetError
        return await count_held_once(connection, job, first=first, last=last)

    async with await open_pool(database_url, size=3) as pool:
        driver = PlanDriver(pool, settings, 1)
        job_id = await driver.submit("shop", "opt_out", [1, 2, 3], [1], {})
        monkeypatch.setattr(forecasting, "count_held_once", failing)
        with pytest.raises(ConnectionResetError):
            await driver.count(job_id)
        monkeypatch.setattr(forecasting, "count_held_once", count_held_once)
        assert await driver.count(job_id) is JobState.PLANNED


async def test_a_forecast_needs_no_second_connection(
    database_url: str, settings: Settings, shop: int, monkeypatch: pytest.MonkeyPatch
):
    """If the pool has no second connection, the forecast uses the one it has."""
    monkeypatch.setattr("engine.forecaster.CONTACTS_PER_STATEMENT", 1)
    async with await open_pool(database_url, size=1) as pool:
        driver = PlanDriver(pool, settings, 1)
        job_id = await driver.submit("shop", "opt_out", [1, 2, 3], [1], {})
        assert await driver.count(job_id) is JobState.PLANNED
        assert (await driver.job(job_id)).forecast["applied"] == 3
