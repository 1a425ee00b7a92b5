"""Plans and lists of addresses over HTTP: seen before anything changes, and done as seen."""

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
    """Make a key of the default account with all scopes, as headers."""
    return await key_of()


@pytest.fixture
async def planner(pool):
    """A worker that only plans and counts; gone at the end of the test."""

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
                        shared_address_limit=10,
                    )
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    yield
    task.cancel()


async def default_account(pool) -> int:
    """Return the id of the default account."""
    return await pool.fetchval("select id from accounts where name = 'default'")


OPT_OUT = {"action": "opt_out", "selection": {"all": True}, "mode": "plan"}
SEEN = {"applied": 1, "unchanged": 1, "rejected": 0, "propagated": 1}


async def test_a_plan_is_answered_with_what_would_happen(http, key, pool, planner):
    """The answer has the exact counts by field and reason, the job waits, and nothing changed;
    with those counts it is applied, and runs.
    """
    await two_people(pool)
    account_id = await default_account(pool)
    before = await statuses_of(pool, account_id)
    answer = await http.post("/v1/jobs", headers=key, json=OPT_OUT)
    job = answer.json()
    assert (answer.status_code, job["state"]) == (202, "planned"), answer.text
    forecast = job["forecast"]
    assert {name: forecast[name] for name in SEEN} == SEEN
    assert forecast["fields"]["email1"]["reasons"] == {"unchanged:already_opted_out": 1}
    assert await statuses_of(pool, account_id) == before
    applied = await http.post(
        f"/v1/jobs/{job['id']}/apply", headers=key, json={"expected": SEEN, "confirmed_by": "Dana"}
    )
    assert (applied.status_code, applied.json()["state"]) == (202, "running"), applied.text
    assert applied.json()["confirmation"]["by"] == "Dana"


async def test_a_drifted_plan_is_told_with_the_present_counts(http, key, pool, planner):
    """When the counts have changed the answer is the problem `plan-drifted`, with by how much and
    what they are now; nothing changed, and within a tolerance the job is applied.
    """
    await two_people(pool)
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()
    await pool.execute(
        "update email_addresses set status = 'admin', previous_status = status"
        " where match_key = 'ann@x.example'"
    )
    apply = f"/v1/jobs/{job['id']}/apply"
    answer = await http.post(apply, headers=key, json={"expected": SEEN})
    assert "applied by -1" in problem_detail(answer, 409, "plan-drifted")
    assert answer.json()["drift"] == {"applied": -1, "unchanged": 1}
    assert answer.json()["forecast"]["applied"] == 0
    shown = (await http.get(f"/v1/jobs/{job['id']}", headers=key)).json()
    assert shown["state"] == "planned"
    answer = await http.post(apply, headers=key, json={"expected": SEEN, "tolerance": 1})
    assert answer.json()["state"] == "running"


async def test_a_yes_that_cannot_be_is_refused(http, key, key_of, planner, pool):
    """A job that was not planned, another account's, unknown counts and a key without
    the scope, and a tolerance of which the last would count.
    """
    await two_people(pool)
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()
    apply = f"/v1/jobs/{job['id']}/apply"
    yes = {"expected": SEEN}
    other = await key_of("other")
    problem_detail(await http.post(apply, headers=other, json=yes), 404, "not-found")
    reader = await key_of("default", "jobs:read")
    problem_detail(await http.post(apply, headers=reader, json=yes), 403, "scope-missing")
    wrong = {"expected": {**SEEN, "sorts": 1}}
    assert "sorts" in str((await http.post(apply, headers=key, json=wrong)).json())
    twice = json.dumps(yes | {"tolerance": 0})[:-1] + ', "tolerance": 1000000}'
    as_json = key | {"Content-Type": "application/json"}
    answer = await http.post(apply, headers=as_json, content=twice)
    assert "'tolerance' twice" in problem_detail(answer, 400, "malformed")
    shown = (await http.get(f"/v1/jobs/{job['id']}", headers=key)).json()
    assert shown["state"] == "planned"
    plain = {**OPT_OUT, "mode": "run", "selection": {"contacts": [9]}}
    job = (await http.post("/v1/jobs", headers=key, json=plain)).json()
    apply = f"/v1/jobs/{job['id']}/apply"
    problem_detail(await http.post(apply, headers=key, json=yes), 409, "state-conflict")


async def test_without_a_worker_the_plan_is_still_to_come(http, key, pool):
    """Where nobody counts, the answer is the job in the state `planning`, as soon as was asked."""
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
    """Each address once, however it is written, in the order of the file; what is none is left out
    and listed; unknown ones are kept as opted out; the same file with the same key is the same job.
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
    refused = (await http.get(f"/v1/jobs/{job['id']}/import-rejections", headers=key)).json()[
        "import_rejections"
    ]
    assert [(row["line"], row["reason"]) for row in refused] == [(4, "invalid_address")]
    statuses = await statuses_of(pool, await default_account(pool))
    assert statuses["new@x.example"] == ("admin", False)
    assert statuses["ann@y.example"] == ("admin", True)
    inline = {
        "action": "opt_out",
        "params": {"source": "old system"},
        "selection": {"addresses": ["new@x.example", "ANN@x.example"]},
    }
    same = await http.post("/v1/jobs", headers=form["headers"], json=inline)
    assert (same.status_code, same.json()["id"]) == (200, job["id"])


async def test_a_file_that_lists_no_address_is_refused(http, key, pool):
    """Files without addresses, with another header, or for an action that takes none."""
    for content, action, told in (
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
        assert told in answer.json()["detail"], answer.json()
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_a_key_of_a_recipients_act_is_no_jobs(http, key):
    """A job cannot use up the key of a recipient's act, which would then not be done."""
    for used in ("one-click 1 manual 2026-01-01", "opt-out shop e1", "hook 1 e1"):
        answer = await http.post(
            "/v1/jobs", headers=key | {"Idempotency-Key": used}, json=OPT_OUT | {"mode": "run"}
        )
        assert "recipients' opt-outs" in problem_detail(answer, 422, "invalid")


async def test_the_end_of_a_job_is_told_where_the_job_says(http, key, pool, settings):
    """`completion` of a job tells how far the telling is; a URL that is none is refused."""
    await two_people(pool)
    asked = OPT_OUT | {"mode": "run", "completion_url": "https://shop.example/done?token=1"}
    job = (await http.post("/v1/jobs", headers=key, json=asked)).json()
    assert job["completion_webhook"]["attempts"] == 0
    assert "token" not in str(job)
    for url in ("ftp://shop.example/", "https://127.0.0.1/", "shop", "https://u:p@shop.example/"):
        answer = await http.post("/v1/jobs", headers=key, json=asked | {"completion_url": url})
        assert "completion_url" in problem_detail(answer, 422, "invalid")


async def test_a_file_with_endless_refusals_is_refused(pool, monkeypatch):
    """A file of which hardly a line is an address is none, and is not kept as refusals."""
    monkeypatch.setattr("producers.uploads.MAX_REJECTIONS", 2)
    async with pool.acquire() as connection, connection.transaction():
        with pytest.raises(InvalidRequest, match="Check that it is a list"):
            await AddressUpload(io.BytesIO(b"a@x.example\n" + b"no@no@no\n" * 3)).stage(
                connection, 1
            )


async def test_a_name_that_is_there_twice_is_refused(http, key, pool):
    """The last would count, and make a run of a plan: refused by name, in a body and in a form."""
    twice = '{"action": "opt_out", "mode": "plan", "selection": {"all": true}, "mode": "run"}'
    headers = key | {"Content-Type": "application/json"}
    answer = await http.post("/v1/jobs", headers=headers, content=twice)
    assert "'mode' twice" in problem_detail(answer, 400, "malformed")
    answer = await http.post(
        "/v1/jobs", headers=key, data={"job": twice}, files={"contacts": b"1\n"}
    )
    assert "'mode' twice" in problem_detail(answer, 400, "malformed")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_thousands_of_mistakes_are_counted(http, key):
    """A body with more mistakes than anyone reads is refused without telling each."""
    body = {"action": "opt_out", "selection": {"all": True}} | {f"x{n}": 1 for n in range(2000)}
    answer = await http.post("/v1/jobs", headers=key, json=body)
    assert "more than 1,000 names" in problem_detail(answer, 422, "invalid")


async def test_an_address_takes_no_unknown_parameter(http, key, pool):
    """A route with a path that may have slashes refuses unknown parameters as the others do."""
    await two_people(pool)
    answer = await http.get("/v1/addresses/ann@x.example?limits=1", headers=key)
    assert "limits" in problem_detail(answer, 422, "invalid")
