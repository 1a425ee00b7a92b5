"""What a plan says is what the job does, and no plan runs that says something else by then."""

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
TWICE_BESIDE_IT = (
    [{1: ADDRESSES[0], 2: ADDRESSES[1], 3: ADDRESSES[1]}],
    NOT_MARKETABLE,
    [("opt_out", [0], [1], "manual")],
    1,
)
"""What examples seldom come to, made by hand."""


class Planned:
    """Jobs that are planned first, and run when what they said has been confirmed."""

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
        """Plan the job and count what it would do."""
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
                shared_address_limit=LIMIT,
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


class AsForecast(Planned):
    """The same for a comparison, where each job does what it said, address by address."""

    async def __call__(self, account, action, what, fields, params) -> int:
        """Run the job as a plan, and assert that forecasting changes nothing and
        forecasts exactly.
        """
        before = await everything(self.pool)
        job_id = await self.submit(account, action, what, fields, params)
        assert await self.count(job_id) is JobState.PLANNED
        assert await everything(self.pool) == before
        said = (await self.job(job_id)).forecast
        assert await self.apply(job_id, seen(said)) is JobState.PLANNING
        assert await self.count(job_id) is JobState.RUNNING
        job = await self.job(job_id)
        statuses = await statuses_of(self.pool, job.account_id)
        await self.work(job_id)
        await self.compare(job, said, statuses)
        return job_id

    async def compare(self, job, said, before) -> None:
        """Assert that the job did what its forecast said, in total and field by field."""
        did = await read_counts(self.pool, job.id)
        reasons = {f"{outcome}:{reason}": n for (outcome, reason), n in did.items() if reason}
        assert said["reasons"] == reasons
        by_outcome = Counter()
        for (outcome, _), number in did.items():
            by_outcome[outcome] += number
        for outcome in ("applied", "unchanged", "rejected", "empty"):
            assert said[outcome] == by_outcome[outcome], outcome
        assert said["selected"] == by_outcome.total()
        rows = await self.pool.fetch(
            "select field, outcome, count(*) as rows from results"
            " where job_id = $1 and cause = 'direct' group by 1, 2",
            job.id,
        )
        by_field = {FIELD_NAMES[n]: Counter() for n in job.fields}
        for row in rows:
            by_field[FIELD_NAMES[row["field"]]][row["outcome"]] = row["rows"]
        for name, counted in by_field.items():
            told = {k: said["fields"][name][k] for k in ("applied", "unchanged", "rejected")}
            assert told == {k: counted[k] for k in told}, name
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
        assert said["propagated"] == len(changed - direct)


async def everything(pool: asyncpg.Pool) -> list[asyncpg.Record]:
    """What a plan must not touch."""
    return [
        await pool.fetch(f"select * from {table} as whole order by whole::text")
        for table in ("email_addresses", "contact_emails", "results")
    ]


def seen(forecast) -> dict[str, int]:
    """What a person who has read the forecast says yes to."""
    return {name: forecast[name] for name in ("applied", "unchanged", "rejected", "propagated")}


async def test_a_job_does_what_its_plan_said(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Over lists however they drifted apart, for opt-ins, opt-outs of every kind and lists of
    addresses: counts by outcome, reason and field, and those propagated to, are those
    that were forecast, and the forecast changes nothing.
    """
    # Of a handful of contacts as many slices as of millions otherwise.
    monkeypatch.setattr("engine.forecaster.CONTACTS_PER_STATEMENT", 2)
    async with await open_pool(database_url, size=4) as pool:

        async def check(contacts, present, todo, chunk_size) -> None:
            comparison = ModelComparison(pool, AsForecast(pool, settings, chunk_size))
            await comparison.begin(contacts, present)
            for step in todo:
                await comparison.apply(*step)

        await check_property(
            check,
            link_lists,
            start_statuses,
            selecting_jobs,
            st.integers(1, 4),
            max_examples=120,
            explicit_examples=[TWICE_ON_ONE_CONTACT, TWICE_BESIDE_IT],
        )


async def test_a_plan_that_has_drifted_waits_again(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """What was confirmed does not hold any more: the job waits, with the present counts and by how
    much they differ; nothing changed. Confirmed as it is now, or within the tolerance, it runs.
    """
    here = Planned(pool, settings, 10)
    job_id = await here.submit("shop", "opt_out", [1, 2, 3], [1], {})
    assert await here.count(job_id) is JobState.PLANNED
    said = (await here.job(job_id)).forecast
    assert seen(said) == {"applied": 3, "unchanged": 0, "rejected": 0, "propagated": 1}
    await pool.execute(
        "update email_addresses set status = 'manual', previous_status = 'non_marketable'"
        " where match_key = 'eve@example.com'"
    )
    before = await everything(pool)
    assert await here.apply(job_id, seen(said)) is JobState.PLANNING
    assert await here.count(job_id) is JobState.PLANNED
    assert await everything(pool) == before
    job = await here.job(job_id)
    assert job.confirmation["drift"] == {"applied": -1, "unchanged": 1}
    assert job.forecast["applied"] == 2
    assert job.confirmed_at is None
    assert await here.apply(job_id, seen(said), tolerance=1) is JobState.PLANNING
    assert await here.count(job_id) is JobState.RUNNING
    job = await here.job(job_id)
    assert job.confirmed_at is not None
    assert (job.confirmation["by"], job.confirmation["tolerance"]) == ("test", 1)
    assert "drift" not in job.confirmation


async def test_saying_yes_is_checked(pool: asyncpg.Pool, settings: Settings, shop: int):
    """Counts that are missing or unknown, another account's job, and a job that is not planned
    are refused; the same yes a second time changes nothing.
    """
    here = Planned(pool, settings, 10)
    job_id = await here.submit("shop", "opt_out", [1], [1], {})
    yes = {"applied": 1, "unchanged": 0, "rejected": 0, "propagated": 1}
    with pytest.raises(StateConflict, match="planning"):
        await here.apply(job_id, yes)
    assert await here.count(job_id) is JobState.PLANNED
    for counts, told in (
        ({}, "applied is missing"),
        (yes | {"sorts": 1}, "sorts is unknown"),
        (yes | {"applied": -1}, "must not be negative"),
    ):
        with pytest.raises(InvalidRequest, match=told):
            await here.apply(job_id, counts)
    other = await make_account(pool, "other")
    with pytest.raises(NotFound):
        await apply_plan(
            pool, settings, JobKey(other, job_id), expected=yes, tolerance=0, confirmed_by="x"
        )
    assert await here.apply(job_id, yes) is JobState.PLANNING
    assert await here.apply(job_id, yes) is JobState.PLANNING
    assert await here.count(job_id) is JobState.RUNNING
    assert await here.apply(job_id, yes) is JobState.RUNNING
    with pytest.raises(StateConflict, match="running"):
        await here.apply(job_id, yes | {"propagated": 2})


async def test_a_plan_paused_before_its_yes_does_not_run_on_resume(
    pool: asyncpg.Pool, settings: Settings, shop: int
):
    """Neither a pause and resume nor the database lets a planned job run that nobody confirmed."""
    here = Planned(pool, settings, 10)
    job_id = await here.submit("shop", "opt_out", [1], [1], {})
    await control.pause(pool, settings, shop, job_id)
    assert await control.resume(pool, settings, shop, job_id) is JobState.PLANNING
    assert await here.count(job_id) is JobState.PLANNED
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
    """A key that stands for a planned job does not stand for one that runs at once."""
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


async def test_a_count_that_fails_leaves_no_connection_in_use(
    database_url: str, settings: Settings, shop: int, monkeypatch: pytest.MonkeyPatch
):
    """Where one of two connections fails, the other has ended its part before both are given back,
    and the job is counted by whoever comes next.
    """
    monkeypatch.setattr("engine.forecaster.CONTACTS_PER_STATEMENT", 1)
    count_slice = forecasting.count_slice
    calls = []

    async def failing(connection, job, *, first, last):
        calls.append(first)
        if len(calls) == 2:
            raise ConnectionResetError
        return await count_slice(connection, job, first=first, last=last)

    async with await open_pool(database_url, size=3) as pool:
        here = Planned(pool, settings, 1)
        job_id = await here.submit("shop", "opt_out", [1, 2, 3], [1], {})
        monkeypatch.setattr(forecasting, "count_slice", failing)
        with pytest.raises(ConnectionResetError):
            await here.count(job_id)
        monkeypatch.setattr(forecasting, "count_slice", count_slice)
        assert await here.count(job_id) is JobState.PLANNED


async def test_a_count_needs_no_second_connection(
    database_url: str, settings: Settings, shop: int, monkeypatch: pytest.MonkeyPatch
):
    """Where the pool has no other connection to give, the count goes on with the one it has."""
    monkeypatch.setattr("engine.forecaster.CONTACTS_PER_STATEMENT", 1)
    async with await open_pool(database_url, size=1) as one:
        here = Planned(one, settings, 1)
        job_id = await here.submit("shop", "opt_out", [1, 2, 3], [1], {})
        assert await here.count(job_id) is JobState.PLANNED
        assert (await here.job(job_id)).forecast["applied"] == 3
