"""What platforms ask: health, readiness, and how many workers the work takes."""

import asyncio

import pytest
from pydantic import SecretStr

from db import progress
from producers.http import queue_loads
from runtime.settings import Settings
from tests.doors import planned_opt_out

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
    measure = progress.measure

    async def counting(*arguments):
        nonlocal under_way
        under_way += 1
        began.append(under_way)
        try:
            return await measure(*arguments)
        finally:
            under_way -= 1

    monkeypatch.setattr(progress, "measure", counting)
    return began


async def test_a_database_of_another_version_is_not_ready(http, pool):
    """The process lives, and says that it cannot serve; when the revision is right, it can."""
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    revision = await pool.fetchval("select version_num from alembic_version")
    for other in ("0001", "9999"):
        await pool.execute("update alembic_version set version_num = $1", other)
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["type"]) == (
            503,
            "urn:sluice:problem:unavailable",
        )
        assert int(answer.headers["Retry-After"]) > 0
        assert (await http.get("/healthz")).json() == {"status": "ok"}
    await pool.execute("update alembic_version set version_num = $1", revision)
    assert (await http.get("/readyz")).status_code == 200


async def test_the_scale_is_what_the_workers_measure(http, pool, settings, monkeypatch):
    """Chunks of each queue and their age; sums over both; at least one worker."""
    empty = (await http.get("/scale")).json()
    assert (empty["pending_chunks"], empty["oldest_seconds"], empty["suggested_workers"]) == (
        0,
        0,
        1,
    )
    await planned_opt_out(pool, settings, "shop", contacts=4, lanes=1)
    await pool.execute("update job_chunks set runnable_at = now() - interval '40 seconds'")
    monkeypatch.setattr(queue_loads, "FRESH_SECONDS", 0)
    scale = (await http.get("/scale")).json()
    assert {each["queue"]: each["pending_chunks"] for each in scale["queues"]} == {
        "bulk": 0,
        "opt_outs": 4,
    }
    assert (scale["pending_chunks"], scale["running_jobs"]) == (4, 1)
    assert 40 <= scale["oldest_seconds"] < 100
    # Two periods of 15 seconds have passed.
    assert scale["suggested_workers"] >= 3
    hirefire = await http.get("/hirefire", headers={"HireFire-Token": TOKEN})
    assert hirefire.json() == [{"name": "worker", "value": scale["suggested_workers"]}]


async def test_many_who_ask_cost_one_measurement(http, counted, monkeypatch):
    """Those who come together share it, and never are two under way."""
    await asyncio.gather(*(http.get("/scale") for _ in range(20)))
    assert counted == [1]
    monkeypatch.setattr(queue_loads, "FRESH_SECONDS", 0)
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
    here = app.state.here
    here.settings = here.settings.model_copy(update={"hirefire_token": None})
    for headers in ({}, {"HireFire-Token": ""}, {"HireFire-Token": TOKEN}):
        assert (await http.get("/hirefire", headers=headers)).status_code == 404


async def test_heads_are_answered_as_gets_are(http):
    """Platforms that look in by HEAD get the same status."""
    for path in ("/healthz", "/readyz", "/scale"):
        assert (await http.head(path)).status_code == 200
    assert (await http.head("/hirefire", headers={"HireFire-Token": TOKEN})).status_code == 200
    assert (await http.head("/hirefire")).status_code == 404
