"""What platforms ask: health, readiness, and how many workers the work takes."""

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

OLDEST = next(sql for sql in STATEMENTS if "waiting.since" in sql)

TOKEN = "a token of a platform"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with HireFire's token."""
    return settings.model_copy(update={"hirefire_token": SecretStr(TOKEN)})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many measurements were under way when each of them began, itself included."""
    began: list[int] = []
    under_way = 0
    measure = db_queue_stats.read_queue_loads

    async def counting(*arguments):
        nonlocal under_way
        under_way += 1
        began.append(under_way)
        try:
            return await measure(*arguments)
        finally:
            under_way -= 1

    monkeypatch.setattr(db_queue_stats, "read_queue_loads", counting)
    return began


async def test_a_database_of_another_version_is_not_ready(http, pool):
    """The process lives, and says that it cannot serve; when the revision is right, it can."""
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
    """Asks for the scale as it is at this moment."""
    monkeypatch.setattr(queue_stats, "CACHE_SECONDS", 0)

    async def scale() -> dict[str, Any]:
        return (await http.get("/scale")).json()

    return scale


async def time_passes(pool: asyncpg.Pool, seconds: float) -> None:
    """Let everything that is stored have been stored so much earlier."""
    for table, column in (
        ("job_states", "entered_at"),
        ("job_chunks", "runnable_at"),
        ("job_chunks", "finished_at"),
        ("jobs", "staged_at"),
        ("sweeps", "suggested_at"),
    ):
        await pool.execute(f"update {table} set {column} = {column} - $1 * interval '1 s'", seconds)


async def submitted_opt_out(pool, settings, **more) -> int:
    """An opt-out of all contacts of the default account, which waits for its plan."""
    request = JobRequest(
        action="opt_out", selection=Selection(all=True), requested_by="test", **more
    )
    return (await submit(pool, settings, request)).job_id


async def test_nothing_waits_at_first(scale):
    """All figures are 0, and one worker is suggested."""
    empty = await scale()
    assert empty.pop("suggested_workers") == 1
    queues = [set(queue.values()) - {queue["queue"]} for queue in empty.pop("queues")]
    assert queues == [{0}, {0}]
    assert set(empty.values()) == {0}


async def test_jobs_wait_for_their_plan_from_their_submission(pool, settings, scale, monkeypatch):
    """While no worker runs, jobs without a plan are seen: how many, and for how long they wait.
    Once planned, their chunks are.
    """
    for _ in range(3):
        job = await submitted_opt_out(pool, settings)
    await time_passes(pool, 20)
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


async def test_the_scale_is_what_the_workers_measure(http, pool, settings, scale):
    """Chunks of each queue and their age; sums over both; HireFire is told the same."""
    await submit_planned_opt_out(pool, settings, "shop", contacts=4, lanes=1)
    await time_passes(pool, 40)
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


async def test_a_paused_job_does_not_wait_and_a_resumed_one_waits_from_then(pool, settings, scale):
    """Neither its chunks nor its plan count while it is paused, nor that time afterwards."""
    planned = await submit_planned_opt_out(pool, settings, "shop", contacts=2, lanes=1)
    unplanned = await submitted_opt_out(pool, settings)
    for job in (planned, unplanned):
        await pause(pool, settings, None, job)
    await time_passes(pool, 1_000)
    paused = await scale()
    assert (paused["pending_chunks"], paused["oldest_seconds"]) == (0, 0)
    for job in (planned, unplanned):
        await resume(pool, settings, None, job)
    await time_passes(pool, 10)
    resumed = await scale()
    assert (resumed["pending_chunks"], resumed["planning_jobs"]) == (3, 1)
    assert 10 <= resumed["oldest_seconds"] < 100


async def test_a_plan_that_waits_for_a_person_waits_for_no_worker(pool, settings, scale):
    """Once it is confirmed it is counted again, and waits from then on, as do its chunks."""
    await fill_large_account(pool, 1, 3)
    job = await submitted_opt_out(pool, settings, plan_first=True)
    async with pool.acquire() as connection:
        await plan_job(connection, JobKey(DEFAULT_ACCOUNT, job), chunk_size=1, max_lanes=1)
        # A plan that is to be counted is one, whatever chunks it has.
        assert (await scale())["pending_chunks"] == 1
        await forecast_job(
            connection, pool, JobKey(DEFAULT_ACCOUNT, job), chunk_size=1, shared_address_limit=10
        )
    await time_passes(pool, 1_000)
    planned = await scale()
    assert (planned["pending_chunks"], planned["oldest_seconds"]) == (0, 0)
    await pool.execute("update jobs set state = 'planning', confirmation = '{}' where id = $1", job)
    await time_passes(pool, 10)
    confirmed = await scale()
    assert (confirmed["pending_chunks"], confirmed["planning_jobs"]) == (1, 1)
    assert 10 <= confirmed["oldest_seconds"] < 100
    await pool.execute("update jobs set state = 'running', confirmed_at = now() where id = $1", job)
    running = await scale()
    assert (running["pending_chunks"], running["planning_jobs"]) == (3, 0)
    assert running["oldest_seconds"] < 10


async def test_a_retry_that_is_put_off_does_not_wait(pool, settings, scale):
    """It does once it can be worked, from then on."""
    await submit_planned_opt_out(pool, settings, "shop", contacts=2, lanes=1)
    await time_passes(pool, 100)
    await pool.execute("update job_chunks set runnable_at = now() + interval '60 s'")
    later = await scale()
    assert (later["pending_chunks"], later["oldest_seconds"], later["running_jobs"]) == (0, 0, 1)
    await time_passes(pool, 70)
    due = await scale()
    assert due["pending_chunks"] == 2
    assert 10 <= due["oldest_seconds"] < 60


async def test_an_end_that_is_left_waits_from_the_last_chunk(pool, settings, scale):
    """A job whose chunks are done and whose end is not is one that waits."""
    await submit_planned_opt_out(pool, settings, "shop", contacts=2, lanes=1)
    await time_passes(pool, 100)
    await pool.execute(
        "update job_chunks set state = 'done', empty = pairs, finished_at = now() - interval '30 s'"
    )
    left = await scale()
    assert (left["pending_chunks"], left["running_jobs"]) == (1, 1)
    assert 30 <= left["oldest_seconds"] < 90


async def test_a_job_that_no_worker_understands_waits(pool, scale):
    """An action of a newer version counts as bulk work, so that an alarm on age fires."""
    await pool.execute(
        "insert into jobs (account_id, action, fields, selection, requested_by, request_hash,"
        " correlation_id) values (1, 'of_tomorrow', '{1}', '{}', 'test', '', '')"
    )
    await time_passes(pool, 50)
    bulk = (await scale())["queues"][0]
    assert (bulk["queue"], bulk["pending_chunks"]) == ("bulk", 1)
    assert bulk["oldest_seconds"] >= 50


async def test_an_import_waits_from_when_its_file_was_stored(pool, settings, scale):
    """A long upload is no time for which a worker was missing."""
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


async def test_notices_that_are_due_are_shown(pool, settings, scale):
    """One of a job that has ended is, until it is delivered."""
    job = await submitted_opt_out(pool, settings)
    await pool.execute(
        "insert into webhook_deliveries (account_id, job_id, url)"
        " values (1, $1, 'https://shop.example')",
        job,
    )
    assert (await scale())["due_webhooks"] == 0
    await cancel(pool, settings, None, job)
    ended = await scale()
    assert (ended["due_webhooks"], ended["pending_chunks"]) == (1, 0)


async def test_work_is_what_chunks_took_of_late(pool, settings, scale):
    """A job's own chunks tell how long its others take, else those of its queue; what an opt-out
    took that was applied when it was received tells nothing, and neither does what is long ago.
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
    await time_passes(pool, 200)
    assert (await scale())["work_seconds"] == pytest.approx(7 * db_queue_stats.CHUNK_SECONDS)


async def test_the_statement_of_the_runbook_gives_the_same_age(pool, settings, scale):
    """Whatever is the oldest: a plan, a chunk, an end, a job that was resumed, or nothing."""

    async def same() -> None:
        age = await pool.fetchval(OLDEST)
        assert float(age) == pytest.approx((await scale())["oldest_seconds"], abs=5)

    await same()
    end_left = await submit_planned_opt_out(pool, settings, "shop", contacts=2, lanes=1)
    await pool.execute(
        "update job_chunks set state = 'done', empty = pairs, finished_at = clock_timestamp()"
    )
    await time_passes(pool, 100)
    await same()
    paused = await submit_planned_opt_out(pool, settings, "club", contacts=2, lanes=1)
    await time_passes(pool, 100)
    await submitted_opt_out(pool, settings)
    await time_passes(pool, 100)
    await same()
    await cancel(pool, settings, None, end_left)
    await same()
    await pause(pool, settings, None, paused)
    await same()
    await resume(pool, settings, None, paused)
    await same()
    await pool.execute("update job_chunks set runnable_at = now() + interval '1 h'")
    await same()


async def test_of_several_web_processes_one_says_it(pool):
    """Once in each period, and once that it is over."""
    async with pool.acquire() as first, pool.acquire() as second:
        for connection, said in ((first, True), (second, False), (first, False)):
            assert await sweeps.try_report_absence(connection, 60) is said
        await first.execute("update sweeps set unattended_at = unattended_at - interval '61 s'")
        for connection, said in ((second, True), (first, False)):
            assert await sweeps.try_report_absence(connection, 60) is said
        for connection, said in ((first, True), (second, False)):
            assert await sweeps.try_report_return(connection) is said


async def test_nothing_is_said_of_workers_where_nothing_waits(app, pool, settings, capsys):
    """Work that does is told of, but not by a process that has not looked for long enough, and that
    it is over when nobody waits any more.
    """
    state = app.state.sluice

    async def check_queue(watched_seconds: float) -> list[str]:
        state.queue_stats = QueueStatsCache(pool, settings)
        capsys.readouterr()
        await unattended_queue.check_queue(state, 0, watched_seconds)
        return [word for word in capsys.readouterr().out.split() if word.startswith("queue.")]

    assert await check_queue(1) == []
    job = await submitted_opt_out(pool, settings)
    assert await check_queue(0) == []
    assert await check_queue(1) == ["queue.unattended"]
    await cancel(pool, settings, None, job)
    assert await check_queue(1) == ["queue.attended"]
    assert await check_queue(1) == []


async def test_web_processes_agree_on_what_they_suggest(pool, settings, monkeypatch):
    """What one has suggested another one holds, and gives up in its time: no matter which of them
    the platform asks, and when each was started.
    """
    monkeypatch.setattr(queue_stats, "CACHE_SECONDS", 0)
    jobs = [
        await submit_planned_opt_out(pool, settings, account, contacts=300, lanes=8)
        for account in ("shop", "club")
    ]
    first, second = QueueStatsCache(pool, settings), QueueStatsCache(pool, settings)
    # Sixty seconds of opt-outs, of two jobs with eight lanes each: four dynos find a place.
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
    await time_passes(pool, HOLD_SECONDS + 1)
    assert (await second.read()).suggested_workers == 1
    assert (await first.read()).suggested_workers == 1


async def test_many_who_ask_cost_one_measurement(http, counted, monkeypatch):
    """Those who come together share it, and never are two under way."""
    await asyncio.gather(*(http.get("/scale") for _ in range(20)))
    assert counted == [1]
    monkeypatch.setattr(queue_stats, "CACHE_SECONDS", 0)
    await asyncio.gather(*(http.get("/scale") for _ in range(5)))
    assert set(counted) == {1}
    assert len(counted) > 1


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x", "Käse"])
async def test_hirefire_needs_its_token(http, token):
    """With any other it is as if nothing were there."""
    headers = {} if token is None else {"HireFire-Token": token.encode("latin-1")}
    answer = await http.get("/hirefire", headers=headers)
    assert answer.status_code == 404
    assert answer.json() == (await http.get("/nothing")).json()


async def test_without_a_token_of_its_own_nobody_has_the_right_one(app, http):
    """Where HIREFIRE_TOKEN is not set, an empty one is as wrong as any."""
    state = app.state.sluice
    state.settings = state.settings.model_copy(update={"hirefire_token": None})
    for headers in ({}, {"HireFire-Token": ""}, {"HireFire-Token": TOKEN}):
        assert (await http.get("/hirefire", headers=headers)).status_code == 404


async def test_heads_are_answered_as_gets_are(http):
    """Platforms that look in by HEAD get the same status."""
    for path in ("/healthz", "/readyz", "/scale"):
        assert (await http.head(path)).status_code == 200
    assert (await http.head("/hirefire", headers={"HireFire-Token": TOKEN})).status_code == 200
    assert (await http.head("/hirefire")).status_code == 404


async def test_who_waits_for_the_end_can_be_told_to_stop(app):
    """Also when the process begins to end in the same moment: what waits is cancelled all the same,
    and does not go on.
    """
    state = app.state.sluice
    waiting = asyncio.create_task(state.wait_for_shutdown(60))
    await asyncio.sleep(0)
    state.shutting_down.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await state.wait_for_shutdown(60)
