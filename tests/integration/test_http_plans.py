"""Plans and lists of addresses over HTTP: forecast first, and then applied as forecast."""

import asyncio
import io
import json

import pytest

from engine.planner import forecast_job, plan_job
from producers.uploads import AddressUpload
from schemas.errors import InvalidRequest
from schemas.job_key import JobKey
from tests.integration.test_http_jobs import two_people
from tests.kit.factories import DEFAULT_ACCOUNT, statuses_of
from tests.kit.in_process import InProcessRunner
from tests.kit.recipients import problem_detail


@pytest.fixture
async def key(key_of):
    """Create a key of the default account with all scopes; return its headers."""
    return await key_of()


@pytest.fixture
async def planner(pool):
    """Run a worker that only plans and counts, until the end of the test."""

    async def work():
        while True:
            waiting = await pool.fetch("select id from jobs where state = 'planning'")
            for (job_id,) in waiting:
                async with pool.acquire() as connection:
                    await plan_job(
                        connection, JobKey(DEFAULT_ACCOUNT, job_id), chunk_size=2, max_lanes=1
                    )
                    await forecast_job(
                        connection,
                        pool,
                        JobKey(DEFAULT_ACCOUNT, job_id),
                        chunk_size=2,
                        role_address_limit=10,
                    )
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    yield
    task.cancel()


async def default_account(pool) -> int:
    """Return the id of the default account."""
    return await pool.fetchval("select id from accounts where name = 'default'")


OPT_OUT = {"action": "opt_out", "selection": {"all": True}, "mode": "plan"}
EXPECTED = {"applied": 1, "unchanged": 1, "rejected": 0, "propagated": 1}


async def test_a_plan_is_answered_with_its_forecast(http, key, pool, planner):
    """The answer has the exact counts by field and reason, and nothing has changed. A confirmation
    of these counts applies the plan.
    """
    await two_people(pool)
    account_id = await default_account(pool)
    before = await statuses_of(pool, account_id)
    answer = await http.post("/v1/jobs", headers=key, json=OPT_OUT)
    job = answer.json()
    assert (answer.status_code, job["state"]) == (202, "planned"), answer.text
    forecast = job["forecast"]
    assert {name: forecast[name] for name in EXPECTED} == EXPECTED
    assert forecast["fields"]["email1"]["reasons"] == {"unchanged:already_opted_out": 1}
    assert await statuses_of(pool, account_id) == before
    applied = await http.post(
        f"/v1/jobs/{job['id']}/apply",
        headers=key,
        json={"expected": EXPECTED, "confirmed_by": "Dana"},
    )
    assert (applied.status_code, applied.json()["state"]) == (202, "running"), applied.text
    assert applied.json()["confirmation"]["by"] == "Dana"


async def test_a_drifted_plan_is_rejected_with_the_present_counts(http, key, pool, planner):
    """If the counts have changed, the problem `plan-drifted` has the drift and the present counts.
    Nothing has changed, and with a sufficient tolerance the plan is applied.
    """
    await two_people(pool)
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()
    await pool.execute(
        "update email_addresses set status = 'admin', previous_status = status"
        " where match_key = 'ann@x.example'"
    )
    apply = f"/v1/jobs/{job['id']}/apply"
    answer = await http.post(apply, headers=key, json={"expected": EXPECTED})
    assert "applied by -1" in problem_detail(answer, 409, "plan-drifted")
    assert answer.json()["drift"] == {"applied": -1, "unchanged": 1}
    assert answer.json()["forecast"]["applied"] == 0
    shown = (await http.get(f"/v1/jobs/{job['id']}", headers=key)).json()
    assert shown["state"] == "planned"
    answer = await http.post(apply, headers=key, json={"expected": EXPECTED, "tolerance": 1})
    assert answer.json()["state"] == "running"


async def test_an_invalid_confirmation_is_rejected(http, key, key_of, planner, pool):
    """A confirmation of another account, without the scope or with unknown counts is rejected. So
    is one with a duplicate tolerance, or for a job that is not planned.
    """
    await two_people(pool)
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()
    apply = f"/v1/jobs/{job['id']}/apply"
    confirmation = {"expected": EXPECTED}
    other = await key_of("other")
    problem_detail(await http.post(apply, headers=other, json=confirmation), 404, "not-found")
    reader = await key_of("default", "jobs:read")
    problem_detail(await http.post(apply, headers=reader, json=confirmation), 403, "scope-missing")
    invalid = {"expected": {**EXPECTED, "sorts": 1}}
    assert "sorts" in str((await http.post(apply, headers=key, json=invalid)).json())
    for lax in ({"tolerance": True}, {"expected": {**EXPECTED, "applied": "1"}}):
        answer = await http.post(apply, headers=key, json=confirmation | lax)
        assert "Give a whole number" in problem_detail(answer, 422, "invalid")
    twice = json.dumps(confirmation | {"tolerance": 0})[:-1] + ', "tolerance": 1000000}'
    headers = key | {"Content-Type": "application/json"}
    answer = await http.post(apply, headers=headers, content=twice)
    assert "'tolerance' twice" in problem_detail(answer, 400, "malformed")
    shown = (await http.get(f"/v1/jobs/{job['id']}", headers=key)).json()
    assert shown["state"] == "planned"
    unplanned = {**OPT_OUT, "mode": "run", "selection": {"contacts": [9]}}
    job = (await http.post("/v1/jobs", headers=key, json=unplanned)).json()
    apply = f"/v1/jobs/{job['id']}/apply"
    problem_detail(await http.post(apply, headers=key, json=confirmation), 409, "state-conflict")


async def test_without_a_worker_a_plan_has_no_forecast(http, key, pool):
    """Without a worker the answer is a job in the state `planning`, after the requested wait."""
    answer = await http.post("/v1/jobs", headers=key | {"Prefer": "wait=0"}, json=OPT_OUT)
    assert (answer.status_code, answer.json()["state"]) == (202, "planning")
    assert answer.json()["forecast"] is None


LIST = b"""email,when
Ann@X.example,2024-01-01
"new@x.example","2024-01-02"
no address,2024-01-03
ann@x.example,2024-01-04
"""


async def test_a_file_of_addresses_becomes_a_job(http, key, pool, settings):
    """Each address is listed once, in the order of the file, and invalid ones become import
    rejections. Unknown addresses are stored as opted out, and the same request returns the same
    job.
    """
    await two_people(pool)
    form = {
        "files": {"addresses": ("list.csv", LIST, "text/csv")},
        "data": {"job": '{"action": "opt_out", "params": {"source": "old system"}}'},
        "headers": key | {"Idempotency-Key": "suppressions"},
    }
    answer = await http.post("/v1/jobs", **form)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["fields"], job["selection"]) == (["address"], {"addresses": 2})
    assert job["unknown"] == 1
    assert job["import_rejections"] == {"invalid_address": 1}
    assert (await http.post("/v1/jobs", **form)).json()["id"] == job["id"]
    await InProcessRunner(pool, settings, chunk_size=2, parallel=1).work(job["id"])
    listed = (await http.get(f"/v1/jobs/{job['id']}/results", headers=key)).json()["results"]
    direct = [row for row in listed if row["cause"] == "direct"]
    assert [(row["contact_id"], row["field"]) for row in direct] == [(None, "address")] * 2
    assert {row["address"] for row in direct} == {"ann@x.example", "new@x.example"}
    rejections = (await http.get(f"/v1/jobs/{job['id']}/import-rejections", headers=key)).json()[
        "import_rejections"
    ]
    assert [(row["line"], row["reason"]) for row in rejections] == [(4, "invalid_address")]
    statuses = await statuses_of(pool, await default_account(pool))
    assert statuses["new@x.example"] == ("admin", False)
    assert statuses["ann@y.example"] == ("admin", True)
    inline = {
        "action": "opt_out",
        "params": {"source": "old system"},
        "selection": {"addresses": ["new@x.example", "ANN@x.example"]},
    }
    repeated = await http.post("/v1/jobs", headers=form["headers"], json=inline)
    assert (repeated.status_code, repeated.json()["id"]) == (200, job["id"])


async def test_a_file_without_addresses_is_rejected(http, key, pool):
    """A file without addresses, with another header, or for an opt-in is rejected."""
    for content, action, expected in (
        (b"", "opt_out", "no email address"),
        (b"nothing\n", "opt_out", "names no column"),
        (b"a@x.example\n", "opt_in", "takes contacts and no addresses"),
        (b"x" * 70_000, "opt_out", "names no column"),
        (b"nobody@x\n", "opt_out", "Line 1: "),
    ):
        answer = await http.post(
            "/v1/jobs",
            headers=key,
            data={"job": f'{{"action": "{action}"}}'},
            files={"addresses": content},
        )
        assert answer.status_code == 422, answer.text
        assert expected in answer.json()["detail"], answer.json()
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_keys_of_recipients_opt_outs_are_reserved(http, key):
    """A job cannot use a key reserved for a recipient's opt-out, which would then be lost."""
    for reserved in ("one-click 1 manual 2026-01-01", "opt-out shop e1", "hook 1 e1"):
        answer = await http.post(
            "/v1/jobs", headers=key | {"Idempotency-Key": reserved}, json=OPT_OUT | {"mode": "run"}
        )
        assert "recipients' opt-outs" in problem_detail(answer, 422, "invalid")


async def test_a_job_shows_its_completion_webhook(http, key, pool, settings):
    """`completion_webhook` of a job has the state of its delivery; an invalid URL is rejected."""
    await two_people(pool)
    body = OPT_OUT | {"mode": "run", "completion_url": "https://shop.example/done?token=1"}
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()
    assert job["completion_webhook"]["attempts"] == 0
    assert "token" not in str(job)
    for url in ("ftp://shop.example/", "https://127.0.0.1/", "shop", "https://u:p@shop.example/"):
        answer = await http.post("/v1/jobs", headers=key, json=body | {"completion_url": url})
        assert "completion_url" in problem_detail(answer, 422, "invalid")


async def test_a_file_with_too_many_rejections_is_rejected(pool, monkeypatch):
    """A file in which hardly any line has an address is rejected without import rejections."""
    monkeypatch.setattr("producers.uploads.MAX_REJECTIONS", 2)
    async with pool.acquire() as connection, connection.transaction():
        with pytest.raises(InvalidRequest, match="Check that it is a list"):
            await AddressUpload(io.BytesIO(b"a@x.example\n" + b"no@no@no\n" * 3)).stage(
                connection, 1
            )


async def test_a_duplicate_name_is_rejected(http, key, pool):
    """A duplicate name is rejected in a body and in a form, since the last value could turn a plan
    into a run.
    """
    twice = '{"action": "opt_out", "mode": "plan", "selection": {"all": true}, "mode": "run"}'
    headers = key | {"Content-Type": "application/json"}
    answer = await http.post("/v1/jobs", headers=headers, content=twice)
    assert "'mode' twice" in problem_detail(answer, 400, "malformed")
    answer = await http.post(
        "/v1/jobs", headers=key, data={"job": twice}, files={"contacts": b"1\n"}
    )
    assert "'mode' twice" in problem_detail(answer, 400, "malformed")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_too_many_errors_are_not_listed(http, key):
    """A body with too many errors is rejected without listing each."""
    body = {"action": "opt_out", "selection": {"all": True}} | {f"x{n}": 1 for n in range(2000)}
    answer = await http.post("/v1/jobs", headers=key, json=body)
    assert "more than 1,000 names" in problem_detail(answer, 422, "invalid")


async def test_an_address_route_rejects_unknown_parameters(http, key, pool):
    """A route whose path may contain slashes rejects unknown parameters like the others."""
    await two_people(pool)
    answer = await http.get("/v1/addresses/ann@x.example?limits=1", headers=key)
    assert "limits" in problem_detail(answer, 422, "invalid")
