"""What platforms read: health, readiness, and how many workers are needed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from db import queue_stats as db_queue_stats
from db import sweeps
from engine.planner import forecast_job, plan_job
from producers.control import cancel, pause, resume
from producers.immediate_opt_out import opt_out_immediately
from producers.scaling import HOLD_SECONDS
from producers.submit import submit
from runtime.settings import Settings
from schemas.job_key import JobKey
from schemas.requests import JobRequest, Selection
from tests.integration.test_runbook import STATEMENTS
from tests.kit.factories import DEFAULT_ACCOUNT, fill_large_account
from tests.kit.submitting import submit_job, submit_planned_opt_out
from web import queue_stats, unattended_queue
from web.queue_stats import QueueStatsCache

OLDEST_AGE_QUERY = next(sql for sql in STATEMENTS if "waiting.since" in sql)

TOKEN = "a token of a platform"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Return the settings with a HireFire token."""
    return settings.model_copy(update={"hirefire_token": SecretStr(TOKEN)})


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record, at the start of each measurement, how many are in progress with it."""
    starts: list[int] = []
    in_progress = 0
    measure = db_queue_stats.read_queue_loads

    async def counting(*arguments):
        nonlocal in_progress
        in_progress += 1
        starts.append(in_progress)
        try:
            return await measure(*arguments)
        finally:
            in_progress -= 1

    monkeypatch.setattr(db_queue_stats, "read_queue_loads", counting)
    return starts


async def test_a_database_of_another_version_is_not_ready(http, pool):
    """The process is alive but not ready until the database has the right revision."""
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    revision = await pool.fetchval("select version_num from alembic_version")
    await pool.execute("update deployment set min_code_revision = '9999'")
    for other in ("0000", "9999"):
        await pool.execute("update alembic_version set version_num = $1", other)
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["type"]) == (
            503,
            "urn:sluice:problem:unavailable",
        )
        assert int(answer.headers["Retry-After"]) > 0
        assert (await http.get("/healthz")).json()["status"] == "ok"
    await pool.execute("update alembic_version set version_num = $1", revision)
    assert (await http.get("/readyz")).status_code == 200


@pytest.fixture
def scale(http, monkeypatch) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return a function that reads the scale without a cache."""
    monkeypatch.setattr(queue_stats, "CACHE_SECONDS", 0)

    async def scale() -> dict[str, Any]:
        return (await http.get("/scale")).json()

    return scale


async def move_into_past(pool: asyncpg.Pool, seconds: float) -> None:
    """Move all stored times into the past by this many seconds."""
    for table, column in (
        ("job_states", "entered_at"),
        ("job_chunks", "runnable_at"),
        ("job_chunks", "finished_at"),
        ("jobs", "staged_at"),
        ("sweeps", "suggested_at"),
    ):
        await pool.execute(f"update {table} set {column} = {column} - $1 * interval '1 s'", seconds)


async def submit_opt_out(pool, settings, **changes) -> int:
    """Submit an opt-out of all contacts of the default account; it waits for its plan."""
    request = JobRequest(
        action="opt_out", selection=Selection(all=True), requested_by="test", **changes
    )
    return (await submit(pool, settings, request)).job_id


async def test_the_scale_without_work(scale):
    """With no work all figures are 0, and one worker is suggested."""
    empty = await scale()
    assert empty.pop("suggested_workers") == 1
    queues = [set(queue.values()) - {queue["queue"]} for queue in empty.pop("queues")]
    assert queues == [{0}, {0}]
    assert set(empty.values()) == {0}


async def test_jobs_wait_for_their_plan_from_their_submission(pool, settings, scale, monkeypatch):
    """Jobs without a plan are counted with their waiting time while no worker runs. Once planned,
    their chunks are counted instead.
    """
    for _ in range(3):
        job = await submit_opt_out(pool, settings)
    await move_into_past(pool, 20)
    waiting = await scale()
    assert (waiting["pending_chunks"], waiting["planning_jobs"], waiting["running_jobs"]) == (
        3,
        3,
        0,
    )
    assert 20 <= waiting["oldest_seconds"] < 60
    assert waiting["queues"][1] | waiting == waiting | {"queue": "opt_outs"}
    async with pool.acquire() as connection:
        await plan_job(connection, JobKey(DEFAULT_ACCOUNT, job), chunk_size=1, max_lanes=1)
    assert (await scale())["planning_jobs"] == 2


async def test_the_scale_has_the_work_of_each_queue(http, pool, settings, scale):
    """The scale has the chunks of each queue, their age and the sums; HireFire gets the same
    number.
    """
    await submit_planned_opt_out(pool, settings, "shop", contacts=4, lanes=1)
    await move_into_past(pool, 40)
    measured = await scale()
    assert {each["queue"]: each["pending_chunks"] for each in measured["queues"]} == {
        "bulk": 0,
        "opt_outs": 4,
    }
    assert (measured["pending_chunks"], measured["running_jobs"]) == (4, 1)
    assert 40 <= measured["oldest_seconds"] < 100
    assert measured["work_seconds"] == pytest.approx(4 * db_queue_stats.CHUNK_SECONDS)
    hirefire = await http.get("/hirefire", headers={"HireFire-Token": TOKEN})
    assert hirefire.json() == [{"name": "worker", "value": measured["suggested_workers"]}]


async def test_a_paused_job_does_not_wait_until_it_is_resumed(pool, settings, scale):
    """A paused job's chunks and plan do not count; once it is resumed, its pause does not count."""
    planned = await submit_planned_opt_out(pool, settings, "shop", contacts=2, lanes=1)
    unplanned = await submit_opt_out(pool, settings)
    for job in (planned, unplanned):
        await pause(pool, settings, None, job)
    await move_into_past(pool, 1_000)
    paused = await scale()
    assert (paused["pending_chunks"], paused["oldest_seconds"]) == (0, 0)
    for job in (planned, unplanned):
        await resume(pool, settings, None, job)
    await move_into_past(pool, 10)
    resumed = await scale()
    assert (resumed["pending_chunks"], resumed["planning_jobs"]) == (3, 1)
    assert 10 <= resumed["oldest_seconds"] < 100


async def test_a_plan_that_waits_for_confirmation_needs_no_worker(pool, settings, scale):
    """A plan that waits for a confirmation does not count. After the confirmation it counts again
    from that time, and so do its chunks.
    """
    await fill_large_account(pool, 1, 3)
    job = await submit_opt_out(pool, settings, plan_first=True)
    async with pool.acquire() as connection:
        await plan_job(connection, JobKey(DEFAULT_ACCOUNT, job), chunk_size=1, max_lanes=1)
        # A plan to be counted is one unit of work, whatever its number of chunks.
        assert (await scale())["pending_chunks"] == 1
        await forecast_job(
            connection, pool, JobKey(DEFAULT_ACCOUNT, job), chunk_size=1, role_address_limit=10
        )
    await move_into_past(pool, 1_000)
    planned = await scale()
    assert (planned["pending_chunks"], planned["oldest_seconds"]) == (0, 0)
    await pool.execute("update jobs set state = 'planning', confirmation = '{}' where id = $1", job)
    await move_into_past(pool, 10)
    confirmed = await scale()
    assert (confirmed["pending_chunks"], confirmed["planning_jobs"]) == (1, 1)
    assert 10 <= confirmed["oldest_seconds"] < 100
    await pool.execute("update jobs set state = 'running', confirmed_at = now() where id = $1", job)
    running = await scale()
    assert (running["pending_chunks"], running["planning_jobs"]) == (3, 0)
    assert running["oldest_seconds"] < 10


async def test_a_delayed_retry_does_not_wait(pool, settings, scale):
    """A delayed retry counts from the time when it can be worked on."""
    await submit_planned_opt_out(pool, settings, "shop", contacts=2, lanes=1)
    await move_into_past(pool, 100)
    await pool.execute("update job_chunks set runnable_at = now() + interval '60 s'")
    later = await scale()
    assert (later["pending_chunks"], later["oldest_seconds"], later["running_jobs"]) == (0, 0, 1)
    await move_into_past(pool, 70)
    due = await scale()
    assert due["pending_chunks"] == 2
    assert 10 <= due["oldest_seconds"] < 60


async def test_an_unfinished_end_waits_from_the_last_chunk(pool, settings, scale):
    """A job with all chunks done but not completed waits since its last chunk."""
    await submit_planned_opt_out(pool, settings, "shop", contacts=2, lanes=1)
    await move_into_past(pool, 100)
    await pool.execute(
        "update job_chunks set state = 'done', empty = pairs, finished_at = now() - interval '30 s'"
    )
    scaled = await scale()
    assert (scaled["pending_chunks"], scaled["running_jobs"]) == (1, 1)
    assert 30 <= scaled["oldest_seconds"] < 90


async def test_a_job_of_an_unknown_action_waits(pool, scale):
    """An action of a newer version counts as bulk work, so that an alarm on the age fires."""
    await pool.execute(
        "insert into jobs (account_id, action, fields, selection, requested_by, request_hash,"
        " correlation_id) values (1, 'of_tomorrow', '{1}', '{}', 'test', '', '')"
    )
    await move_into_past(pool, 50)
    bulk = (await scale())["queues"][0]
    assert (bulk["queue"], bulk["pending_chunks"]) == ("bulk", 1)
    assert bulk["oldest_seconds"] >= 50


async def test_an_import_waits_from_when_its_file_was_stored(pool, settings, scale):
    """The time of a long upload does not count as waiting for a worker."""
    await submit_job(
        pool,
        settings,
        "default",
        "import",
        b"Email\nann@example.com\n",
        ["email1"],
        {"permission": True},
    )
    await pool.execute("update job_states set entered_at = entered_at - interval '10 min'")
    stored = await scale()
    assert stored["planning_jobs"] == 1
    assert stored["oldest_seconds"] < 60


async def test_due_webhooks_are_counted(pool, settings, scale):
    """A completion webhook is due from the end of its job until it is delivered."""
    job = await submit_opt_out(pool, settings)
    await pool.execute(
        "insert into webhook_deliveries (account_id, job_id, url)"
        " values (1, $1, 'https://shop.example')",
        job,
    )
    assert (await scale())["due_webhooks"] == 0
    await cancel(pool, settings, None, job)
    ended = await scale()
    assert (ended["due_webhooks"], ended["pending_chunks"]) == (1, 0)


async def test_work_is_estimated_from_recent_chunks(pool, settings, scale):
    """The work is estimated from the recent chunks of the job, or else of its queue. Immediate
    opt-outs and old chunks do not count.
    """
    job = await submit_planned_opt_out(pool, settings, "shop", contacts=10, lanes=1)
    request = JobRequest(
        action="opt_out",
        selection=Selection(addresses=("ann@example.com",)),
        requested_by="test",
    )
    await opt_out_immediately(pool, settings, request)
    assert (await scale())["work_seconds"] == pytest.approx(10 * db_queue_stats.CHUNK_SECONDS)
    await pool.execute(
        "update job_chunks set state = 'done', empty = pairs, duration_ms = 700,"
        " finished_at = clock_timestamp() where job_id = $1 and chunk_no <= 5",
        job,
    )
    assert (await scale())["work_seconds"] == pytest.approx(5 * 0.7)
    await submit_planned_opt_out(pool, settings, "club", contacts=2, lanes=1)
    assert (await scale())["work_seconds"] == pytest.approx(7 * 0.7)
    await move_into_past(pool, 200)
    assert (await scale())["work_seconds"] == pytest.approx(7 * db_queue_stats.CHUNK_SECONDS)


async def test_the_statement_of_the_runbook_gives_the_same_age(pool, settings, scale):
    """The statement finds the oldest work: a plan, a chunk, an unfinished end, a resumed job, or
    none.
    """

    async def require_same_age() -> None:
        age = await pool.fetchval(OLDEST_AGE_QUERY)
        assert float(age) == pytest.approx((await scale())["oldest_seconds"], abs=5)

    await require_same_age()
    unfinished = await submit_planned_opt_out(pool, settings, "shop", contacts=2, lanes=1)
    await pool.execute(
        "update job_chunks set state = 'done', empty = pairs, finished_at = clock_timestamp()"
    )
    await move_into_past(pool, 100)
    await require_same_age()
    paused = await submit_planned_opt_out(pool, settings, "club", contacts=2, lanes=1)
    await move_into_past(pool, 100)
    await submit_opt_out(pool, settings)
    await move_into_past(pool, 100)
    await require_same_age()
    await cancel(pool, settings, None, unfinished)
    await require_same_age()
    await pause(pool, settings, None, paused)
    await require_same_age()
    await resume(pool, settings, None, paused)
    await require_same_age()
    await pool.execute("update job_chunks set runnable_at = now() + interval '1 h'")
    await require_same_age()


async def test_one_web_process_reports_missing_workers(pool):
    """One web process reports it once in each period, and one reports that it is over."""
    async with pool.acquire() as first, pool.acquire() as second:
        for connection, is_reported in ((first, True), (second, False), (first, False)):
            assert await sweeps.try_report_absence(connection, 60) is is_reported
        await first.execute("update sweeps set unattended_at = unattended_at - interval '61 s'")
        for connection, is_reported in ((second, True), (first, False)):
            assert await sweeps.try_report_absence(connection, 60) is is_reported
        for connection, is_reported in ((first, True), (second, False)):
            assert await sweeps.try_report_return(connection) is is_reported


async def test_missing_workers_are_reported_only_if_work_waits(app, pool, settings, capsys):
    """A process reports work without workers only after it has watched for long enough. It reports
    the end when no work waits any more.
    """
    state = app.state.sluice

    async def check_queue(watched_seconds: float) -> list[str]:
        state.queue_stats = QueueStatsCache(pool, settings)
        capsys.readouterr()
        await unattended_queue.check_queue(state, 0, watched_seconds)
        return [word for word in capsys.readouterr().out.split() if word.startswith("queue.")]

    assert await check_queue(1) == []
    job = await submit_opt_out(pool, settings)
    assert await check_queue(0) == []
    assert await check_queue(1) == ["queue.unattended"]
    await cancel(pool, settings, None, job)
    assert await check_queue(1) == ["queue.attended"]
    assert await check_queue(1) == []


async def test_web_processes_agree_on_the_suggested_workers(pool, settings, monkeypatch):
    """All web processes hold a suggestion for the same time. It makes no difference which one the
    platform asks, and when each was started.
    """
    monkeypatch.setattr(queue_stats, "CACHE_SECONDS", 0)
    jobs = [
        await submit_planned_opt_out(pool, settings, account, contacts=300, lanes=8)
        for account in ("shop", "club")
    ]
    first, second = QueueStatsCache(pool, settings), QueueStatsCache(pool, settings)
    # Sixty seconds of opt-outs in two jobs with eight lanes each occupy four worker processes.
    assert (await second.read()).suggested_workers == 2
    await pool.execute(
        "update job_chunks set state = 'done', empty = pairs, duration_ms = 700,"
        " finished_at = clock_timestamp() where chunk_no <= 5"
    )
    assert (await first.read()).suggested_workers == 4
    for job in jobs:
        await cancel(pool, settings, None, job)
    assert (await second.read()).suggested_workers == 4
    assert (await QueueStatsCache(pool, settings).read()).suggested_workers == 4
    await move_into_past(pool, HOLD_SECONDS + 1)
    assert (await second.read()).suggested_workers == 1
    assert (await first.read()).suggested_workers == 1


async def test_concurrent_requests_share_a_measurement(http, measurements, monkeypatch):
    """Concurrent requests share one measurement, and only one is in progress at a time."""
    await asyncio.gather(*(http.get("/scale") for _ in range(20)))
    assert measurements == [1]
    monkeypatch.setattr(queue_stats, "CACHE_SECONDS", 0)
    await asyncio.gather(*(http.get("/scale") for _ in range(5)))
    assert set(measurements) == {1}
    assert len(measurements) > 1


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x", "Käse"])
async def test_hirefire_needs_its_token(http, token):
    """With any other token the response is the same as for an unknown path."""
    headers = {} if token is None else {"HireFire-Token": token.encode("latin-1")}
    answer = await http.get("/hirefire", headers=headers)
    assert answer.status_code == 404
    assert answer.json() == (await http.get("/nothing")).json()


async def test_hirefire_without_a_configured_token_is_not_found(app, http):
    """If `HIREFIRE_TOKEN` is not set, no token is accepted, not even an empty one."""
    state = app.state.sluice
    state.settings = state.settings.model_copy(update={"hirefire_token": None})
    for headers in ({}, {"HireFire-Token": ""}, {"HireFire-Token": TOKEN}):
        assert (await http.get("/hirefire", headers=headers)).status_code == 404


async def test_head_requests_are_answered_like_get(http):
    """HEAD requests get the same status as GET requests."""
    for path in ("/healthz", "/readyz", "/scale"):
        assert (await http.head(path)).status_code == 200
    assert (await http.head("/hirefire", headers={"HireFire-Token": TOKEN})).status_code == 200
    assert (await http.head("/hirefire")).status_code == 404


async def test_a_wait_for_shutdown_can_be_cancelled(app):
    """A wait that is cancelled at the moment of a shutdown is still cancelled."""
    state = app.state.sluice
    waiting = asyncio.create_task(state.wait_for_shutdown(60))
    await asyncio.sleep(0)
    state.shutting_down.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await state.wait_for_shutdown(60)
