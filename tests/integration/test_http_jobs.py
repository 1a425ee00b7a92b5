"""Jobs over HTTP: submitting, listing, following and controlling them."""

import asyncio
import itertools
import json
import time

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from db import jobs as db_jobs
from producers.invalid_request import format_field_error
from schemas.errors import FieldError
from tests.kit.factories import fill, make_account
from tests.kit.in_process import InProcessRunner
from tests.kit.property_examples import example_count
from tests.kit.recipients import problem_detail
from tests.kit.submitting import EVIDENCE
from tests.kit.waiting import wait_until_async
from web import prefer_wait
from web import state as web_state
from web.routes import job_events
from web.routes import jobs as jobs_routes

JOB_WITH_NOTE = (
    '{"action": "opt_out", "params": {"note": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}}'
)

OPT_OUT = {"action": "opt_out", "selection": {"all": True}}

OPT_IN = {"action": "opt_in", "selection": {"all": True}, "fields": ["email1", "email2"]}


@pytest.fixture
async def key(key_of):
    """Create a key of the default account with all scopes; return its headers."""
    return await key_of()


@pytest.fixture
def runner(pool, settings):
    """Return a runner that works on jobs as workers do."""
    return InProcessRunner(pool, settings, chunk_size=2, parallel=1)


async def two_people(pool):
    """Store two contacts in the default account, one of whom has opted out."""
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    await fill(
        pool,
        account_id,
        {1: {1: "ann@x.example", 2: "ann@y.example"}, 2: {1: "bob@x.example"}},
        {
            "ann@x.example": ("non_marketable", False),
            "ann@y.example": ("confirmed", False),
            "bob@x.example": ("manual", False),
        },
    )


async def test_a_job_is_stored_and_shown(http, key):
    """The answer is the job with its location. `requested_by` is the key's name, unless the body
    has one.
    """
    answer = await http.post(
        "/v1/jobs",
        headers={**key, "Idempotency-Key": "spring", "X-Correlation-Id": "abc"},
        json={**OPT_IN, "evidence": EVIDENCE, "selection": {"contacts": [3, 1, 3]}},
    )
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (await http.get(answer.headers["location"], headers=key)).json() == job
    names = ("action", "state", "fields", "selection", "evidence", "requested_by")
    assert [job[name] for name in names] == [
        "opt_in",
        "planning",
        ["email1", "email2"],
        {"contacts": 2},
        EVIDENCE,
        "a service of default",
    ]
    assert (job["idempotency_key"], job["correlation_id"], job["percent"]) == (
        "spring",
        "abc",
        None,
    )
    body = {**OPT_OUT, "requested_by": "Eve", "params": {"note": "moved"}}
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()
    assert (job["requested_by"], job["params"]["note"]) == ("Eve", "moved")


async def test_a_job_may_list_addresses_or_be_planned_first(http, key, pool):
    """The field of listed addresses is the address itself, and `mode` is stored."""
    body = {"action": "opt_out", "selection": {"addresses": ["A@x.example", "a@X.example"]}}
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()
    assert (job["fields"], job["selection"]) == (["address"], {"addresses": 1})
    # No worker is running that could count the plan.
    no_wait = key | {"Prefer": "wait=0"}
    planned = await http.post("/v1/jobs", headers=no_wait, json={**OPT_OUT, "mode": "plan"})
    assert planned.status_code == 202, planned.text
    assert await pool.fetch("select id, plan_first from jobs order by id") == [
        (job["id"], False),
        (planned.json()["id"], True),
    ]


async def test_an_idempotency_key_is_for_one_request(http, key):
    """Repeating a request returns the same job. Another request with the same key is a conflict."""
    headers = {**key, "Idempotency-Key": "k"}
    first = await http.post("/v1/jobs", headers=headers, json=OPT_OUT)
    again = await http.post("/v1/jobs", headers=headers, json=OPT_OUT)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    other = await http.post("/v1/jobs", headers=headers, json={**OPT_OUT, "fields": ["email2"]})
    assert "is of a different request" in problem_detail(other, 409, "idempotency-key-reused")
    for wrong in ("", "x" * 201):
        refused = await http.post(
            "/v1/jobs", headers={**key, "Idempotency-Key": wrong}, json=OPT_OUT
        )
        assert "the header `idempotency-key`" in problem_detail(refused, 422, "invalid")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({**OPT_OUT, "account": "other"}, "`account`: Unknown field. Valid fields: action,"),
        (
            {**OPT_OUT, "selection": {"all": True, "tags": "x"}},
            "`selection.tags`: Unknown field",
        ),
        ({**OPT_OUT, "params": {"colour": "red"}}, "`params.colour`: Unknown field"),
        ({**OPT_OUT, "selection": {}}, "Give a condition"),
        ({**OPT_OUT, "selection": {"all": "yes"}}, "`selection.all`: Give true or false"),
        ({**OPT_OUT, "selection": {"all": 1}}, "`selection.all`: Give true or false"),
        ({**OPT_OUT, "selection": {"import_job": True}}, "`selection.import_job`: Give a whole"),
        ({**OPT_OUT, "selection": {"import_job": "1"}}, "`selection.import_job`: Give a whole"),
        ({**OPT_OUT, "selection": {"import_job": 1.0}}, "`selection.import_job`: Give a whole"),
        ({**OPT_OUT, "selection": {"contacts": ["7"]}}, "the first of `selection.contacts`"),
        ({**OPT_OUT, "selection": {"contacts": list(range(100_001))}}, "send them as a file"),
        ({**OPT_OUT, "fields": ["email4"]}, "the first of `fields`"),
        ({**OPT_OUT, "params": {"note": "a\x00b"}}, "NUL"),
        ({**OPT_OUT, "action": "import"}, "brings its own contacts"),
        ({**OPT_OUT, "selection": {"addresses": ["x"]}}, "the first of `selection.addresses`"),
        (
            {**OPT_OUT, "selection": {"addresses": ["a@x.example"]}, "fields": ["email1"]},
            "A selection of addresses has no fields",
        ),
        ({**OPT_OUT, "mode": "try"}, "mode"),
    ],
)
async def test_an_invalid_request_is_rejected(http, key, pool, body, expected):
    """The error names each wrong field as the client wrote it, and nothing is stored."""
    answer = await http.post("/v1/jobs", headers=key, json=body)
    assert expected in problem_detail(answer, 422, "invalid")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_all_missing_evidence_is_reported_together(http, key):
    """The problem has a prompt for every missing part of the evidence."""
    answer = await http.post("/v1/jobs", headers=key, json={**OPT_IN, "evidence": {}})
    problem_detail(answer, 422, "evidence-missing")
    assert {prompt["field"] for prompt in answer.json()["prompts"]} == {
        *("source", "description", "collected_from", "collected_until", "attested_by")
    }


async def test_a_byte_order_mark_is_ignored(http, key):
    """A byte order mark before the body, as some editors write it, is ignored."""
    body = json.dumps(OPT_OUT).encode("utf-8-sig")
    headers = {**key, "Content-Type": "application/json"}
    answer = await http.post("/v1/jobs", headers=headers, content=body)
    assert answer.status_code == 202, answer.text


async def test_an_unreadable_body_is_rejected(http, key, settings):
    """A body that is not JSON, has another type or charset, or is too large is rejected."""
    json_headers = {**key, "Content-Type": "application/json"}
    for text in ("{", "", "[1, 2", '{"action": "\\ud800"}'):
        answer = await http.post("/v1/jobs", headers=json_headers, content=text)
        assert "is not JSON" in problem_detail(answer, 400, "malformed")
    for path, charset in itertools.product(
        ("/v1/jobs", "/v1/jobs/1/apply"), ("", "; charset=cp1252")
    ):
        headers = {**key, "Content-Type": f"application/json{charset}"}
        answer = await http.post(path, headers=headers, content=JOB_WITH_NOTE.encode("cp1252"))
        assert "is not text in UTF-8" in problem_detail(answer, 400, "malformed")
        assert "charset" in answer.text
    answer = await http.post("/v1/jobs", headers=key, content="{}")
    assert "Content-Type" in problem_detail(answer, 415, "unsupported-media-type")
    large = json.dumps({**OPT_OUT, "params": {"note": "x" * settings.max_body_bytes}})
    answer = await http.post("/v1/jobs", headers=json_headers, content=large)
    assert "bytes" in problem_detail(answer, 413, "body-too-large")

    async def parts():
        for start in range(0, len(large), 100_000):
            yield large[start : start + 100_000].encode()

    problem_detail(
        await http.post("/v1/jobs", headers=json_headers, content=parts()), 413, "body-too-large"
    )


async def test_a_completed_job_has_counts(http, key, pool, runner):
    """A completed job has counts by outcome and reason, and its progress."""
    await two_people(pool)
    body = {**OPT_IN, "evidence": EVIDENCE}
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()["id"]
    await runner.work(job)
    shown = (await http.get(f"/v1/jobs/{job}", headers=key)).json()
    assert (shown["state"], shown["selected"], shown["percent"]) == ("completed", 4, 100.0)
    assert shown["counts"] == {
        "applied": 1,
        "unchanged": 1,
        "rejected": 1,
        "empty": 1,
        "propagated": 0,
    }
    assert shown["reasons"] == {
        "rejected": {"opted_out_by_recipient": 1},
        "unchanged": {"already_marketable": 1},
    }
    assert shown["chunks"] == {"done": 1, "pending": 0, "split": 0}
    assert shown["seconds_left"] is None


async def test_a_running_job_has_a_rate(http, key, pool):
    """The remaining time is estimated from the pairs done in the last seconds."""
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    await pool.execute(
        "update jobs set state = 'running', selected = 400, planned_at = now(),"
        " started_at = now() - interval '1 hour' where id = $1",
        job,
    )
    await pool.execute(
        "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, applied, state,"
        " finished_at) values (1, $1, 1, '{}', 100, 100, 'done', now() - interval '30 minutes'),"
        " (1, $1, 2, '{}', 100, 100, 'done', clock_timestamp()),"
        " (1, $1, 3, '{}', 200, 0, 'pending', null)",
        job,
    )
    shown = (await http.get(f"/v1/jobs/{job}", headers=key)).json()
    assert (shown["percent"], shown["rate"], shown["seconds_left"]) == (50.0, 10.0, 20.0)


async def test_a_job_is_paused_resumed_and_cancelled(http, key):
    """Each request returns the job in its new state; a change that is not allowed gets 409."""
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    for act, state in (
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "planning"),
        ("cancel", "cancelled"),
    ):
        answer = await http.post(f"/v1/jobs/{job}/{act}", headers=key)
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    answer = await http.post(f"/v1/jobs/{job}/pause", headers=key)
    assert "cannot be paused" in problem_detail(answer, 409, "state-conflict")


async def test_another_accounts_job_is_not_found(http, key, key_of):
    """All routes answer for another account's job as for a job that does not exist."""
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    other = await key_of("other")
    for method, path in (
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/results"),
        ("GET", "/results?format=csv"),
        ("GET", "/results?outcome=unprocessed"),
        ("GET", "/import-rejections"),
        *(("POST", f"/{act}") for act in ("pause", "resume", "cancel")),
    ):
        answers = [
            await http.request(method, f"/v1/jobs/{number}{path}", headers=other)
            for number in (job, 2**63 - 1, 2**70, 0, -1)
        ]
        assert [problem_detail(answer, 404, "not-found") for answer in answers] == [
            f"{subject} does not exist. GET /v1/jobs lists the account's jobs."
            for subject in (f"Job {job}", f"Job {2**63 - 1}", *["This job"] * 3)
        ]
    assert (await http.get("/v1/jobs", headers=other)).json() == {"jobs": [], "next": None}
    body = {"action": "opt_out", "selection": {"import_job": job}}
    problem_detail(await http.post("/v1/jobs", headers=other, json=body), 404, "not-found")
    assert (await http.get(f"/v1/jobs/{job}", headers=key)).json()["state"] == "planning"


async def test_a_key_is_limited_to_its_scopes(http, key_of):
    """A key with only the read scope cannot write, and the reverse."""
    reader = await key_of("default", "jobs:read")
    writer = await key_of("default", "jobs:write")
    refused = await http.post("/v1/jobs", headers=reader, json=OPT_OUT)
    assert "jobs:write" in problem_detail(refused, 403, "scope-missing")
    job = (await http.post("/v1/jobs", headers=writer, json=OPT_OUT)).json()["id"]
    for path in ("", "/events", "/results", "/import-rejections"):
        problem_detail(
            await http.get(f"/v1/jobs/{job}{path}", headers=writer), 403, "scope-missing"
        )
    problem_detail(await http.post(f"/v1/jobs/{job}/pause", headers=reader), 403, "scope-missing")


async def insert_jobs(pool, account_id, count, evidence=None):
    """Store jobs in two accounts in turn; every third is cancelled, every fourth is an opt-in."""
    other = await make_account(pool, "other")
    await pool.execute(
        "insert into jobs (account_id, action, state, finished_at, fields, selection, requested_by,"
        " request_hash, correlation_id, evidence)"
        " select case when n % 2 = 0 then $1 else $2::bigint end,"
        " case when n % 4 = 0 then 'opt_in' else 'opt_out' end,"
        " case when n % 3 = 0 then 'cancelled' else 'planning' end::job_state,"
        " case when n % 3 = 0 then now() end, '{1}', '{}', 'x', '', '', $4"
        " from generate_series(1, $3) n",
        account_id,
        other,
        count,
        evidence,
    )


@hypothesis_settings(
    max_examples=example_count(25), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    limit=st.integers(1, 60),
    max_scanned=st.integers(1, 60),
    state=st.sampled_from([None, "cancelled", "planning", "failed"]),
    action=st.sampled_from([None, "opt_in", "no_such_action"]),
)
async def test_pages_have_each_job_once(
    http, key, pool, monkeypatch, limit, max_scanned, state, action
):
    """Each job is listed once, newest first, for any page size and filter."""
    monkeypatch.setattr(db_jobs, "MAX_SCANNED_JOBS", max_scanned)
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    if not await pool.fetchval("select exists (select from jobs)"):
        await insert_jobs(pool, account_id, 80)
    params = {"limit": limit, "state": state, "action": action}
    params = {name: value for name, value in params.items() if value is not None}
    found, pages = [], 0
    cursor = {}
    while cursor is not None:
        page = (await http.get("/v1/jobs", headers=key, params={**params, **cursor})).json()
        assert len(page["jobs"]) <= limit
        found += [job["id"] for job in page["jobs"]]
        cursor = page["next"] and {"cursor": page["next"]}
        pages += 1
    expected = await pool.fetch(
        "select id from jobs where account_id = $1 and ($2::text is null or state::text = $2)"
        " and ($3::text is null or action = $3) order by id desc",
        account_id,
        state,
        action,
    )
    assert found == [row["id"] for row in expected]
    assert pages <= 2 + 40 // min(limit, max_scanned)


async def test_pages_of_jobs_with_long_evidence_are_limited(http, key, pool):
    """A page has limited size even with a high limit, and all pages together have all jobs."""
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    texts = dict.fromkeys(("description", "notice_text", "provider"), "€" * 10_000)
    await insert_jobs(pool, account_id, 40, texts)
    found, cursor = [], {}
    while cursor is not None:
        answer = await http.get("/v1/jobs", headers=key, params={"limit": 1000, **cursor})
        assert len(answer.text) < db_jobs.MAX_PAGE_CHARACTERS + 80_000
        page = answer.json()
        found += [job["id"] for job in page["jobs"]]
        cursor = page["next"] and {"cursor": page["next"]}
    rows = await pool.fetch(
        "select id from jobs where account_id = $1 order by id desc", account_id
    )
    assert found == [row["id"] for row in rows]


async def test_concurrent_requests_of_an_account_are_limited(http, key, key_of, pool, app):
    """One more request waits for a slot of its own account, not of another. A request with `Prefer:
    wait` holds no slot while it waits.
    """
    other = await key_of("other")
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    state = app.state.sluice
    slots = web_state.REQUESTS_PER_CONNECTION * state.settings.web_pool_size
    *held, release_last = [await state.request_slots.acquire(account_id) for _ in range(slots)]

    async def list_jobs(headers):
        return (await http.get("/v1/jobs", headers=headers)).status_code

    own = asyncio.create_task(list_jobs(key))
    assert await list_jobs(other) == 200
    assert not own.done()
    release_last()
    assert await own == 200
    waiting = asyncio.create_task(http.get(f"/v1/jobs/{job}", headers={**key, "Prefer": "wait=20"}))
    await wait_until_async(
        lambda: state.waiting_requests, deadline_seconds=5, what="the request waits on purpose"
    )
    assert await list_jobs(key) == 200
    assert not waiting.done()
    waiting.cancel()
    for release in held:
        release()
        release()
    again = [await state.request_slots.acquire(account_id) for _ in range(slots)]
    assert len(again) == slots


async def test_a_long_list_does_not_wait_for_other_accounts(http, key, pool, app, monkeypatch):
    """An account stores one long list at a time. A short list, and the lists of other accounts, do
    not wait for it.
    """
    monkeypatch.setattr(jobs_routes, "_LONG_LIST_ITEMS", 2)
    await two_people(pool)
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    long, short = ({"selection": {"contacts": [1, 2, 3][:n]}} for n in (3, 2))

    async def store(selection):
        return (
            await http.post("/v1/jobs", headers=key, json=OPT_OUT | selection)
        ).status_code == 202

    slots = app.state.sluice.long_list_slots
    async with slots.hold("another account"):
        assert await store(long)
    async with slots.hold(account_id):
        waiting = asyncio.create_task(store(long))
        assert await store(short)
        assert not waiting.done()
    assert await waiting


@pytest.mark.parametrize("cursor", ["x", "W10", "WzFd" * 40, "WyJhIl0", "WzFlOTldCg", "é"])
async def test_a_forged_cursor_is_rejected(http, key, cursor):
    """A forged cursor gets 422, not a server error or the first page."""
    answer = await http.get("/v1/jobs", headers=key, params={"cursor": cursor})
    problem_detail(answer, 422, "invalid")


async def test_a_waiting_request_is_answered_when_the_job_stops(http, key, pool):
    """`Prefer: wait` delays the answer until the job has stopped. `Preference-Applied` has the
    effective wait.
    """
    answer = await http.post("/v1/jobs", headers={**key, "Prefer": "wait=0"}, json=OPT_OUT)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=0")
    job = answer.json()["id"]
    waiting = asyncio.create_task(
        http.get(f"/v1/jobs/{job}", headers={**key, "Prefer": "respond-async, wait=100"})
    )
    await wait_until_async(
        lambda: pool.fetchval(
            "select exists (select from pg_stat_activity where query like 'select state from jobs%'"
            " and datname = current_database())"
        ),
        deadline_seconds=20,
        what="a request reads the job's state",
    )
    assert not waiting.done()
    await http.post(f"/v1/jobs/{job}/pause", headers=key)
    answer = await waiting
    assert answer.json()["state"] == "paused"
    assert answer.headers["preference-applied"] == "wait=25"
    ignored = await http.get(f"/v1/jobs/{job}", headers={**key, "Prefer": "wait=soon"})
    assert "preference-applied" not in ignored.headers


async def test_waiting_requests_of_a_key_are_limited(http, app, key, monkeypatch):
    """One more request is answered without waiting, and has no `Preference-Applied`. No slot is
    left in use.
    """
    monkeypatch.setattr(prefer_wait, "MAX_WAITING_PER_KEY", 2)
    state = app.state.sluice
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    wait = {**key, "Prefer": "wait=25"}
    waiting = {asyncio.create_task(http.get(f"/v1/jobs/{job}", headers=wait)) for _ in range(2)}
    await wait_until_async(
        lambda: asyncio.sleep(0, state.waiting_requests.total() == 2),
        deadline_seconds=20,
        what="both wait",
    )
    third = await http.get(f"/v1/jobs/{job}", headers=wait)
    assert (third.status_code, third.json()["state"]) == (200, "planning")
    assert "preference-applied" not in third.headers
    assert not any(each.done() for each in waiting)
    await http.post(f"/v1/jobs/{job}/pause", headers=key)
    assert {(await each).headers["preference-applied"] for each in waiting} == {"wait=25"}
    assert not state.waiting_requests.total()


async def test_each_error_of_a_job_has_its_location(http, key):
    """`errors` has the location of each error in `detail`. They may be in a body, the `job` part of
    a form, an action's parameters or a combination of fields.
    """
    body = {"action": "opt_out", "selection": {"tags": "x", "contacts": ["one"]}, "feilds": []}
    invalid_address = {"action": "opt_out", "selection": {"addresses": ["ann@x.example", "nobody"]}}
    for arguments, locations in (
        ({"json": body}, {"selection.tags", "selection.contacts.0", "feilds"}),
        ({"json": invalid_address}, {"selection.addresses.1"}),
        (
            {"json": {**OPT_OUT, "params": {"kind": "x", "noet": "x"}}},
            {"params.kind", "params.noet"},
        ),
        ({"json": {**OPT_OUT, "evidence": {}}}, {"evidence"}),
        ({"json": {**OPT_OUT, "action": "import"}}, {"action"}),
        ({"json": {**invalid_address, "action": "opt_in"}}, {"selection.addresses"}),
        ({"json": {**OPT_OUT, "completion_url": "http://127.0.0.1/"}}, {"completion_url"}),
        (
            {"data": {"job": '{"action": 1, "mode": "look"}'}, "files": {"contacts": b"1\n"}},
            {"action", "mode"},
        ),
    ):
        problem = (await http.post("/v1/jobs", headers=key, **arguments)).json()
        assert problem["type"] == "urn:sluice:problem:invalid"
        assert {each["location"] for each in problem["errors"]} == {
            f"body.{name}" for name in locations
        }
        for each in problem["errors"]:
            location = each["location"].removeprefix("body.")
            assert (
                f"\n  {format_field_error(FieldError(location, each['message']))}"
                in problem["detail"]
            )


def parse_events(text):
    """Return the names and data of a stream's events."""
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


async def test_a_stream_follows_a_job_to_its_end(http, key, pool, runner, monkeypatch):
    """Each change is sent once, comments keep the connection open, and the end comes last."""
    monkeypatch.setattr(job_events, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(job_events, "HEARTBEAT_SECONDS", 0.0)
    await two_people(pool)
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    following = asyncio.create_task(http.get(f"/v1/jobs/{job}/events", headers=key))
    last_query = None
    # The third look follows a second one without news, after which the stream sends a comment.
    for _ in range(3):
        last_query = await wait_until_async(
            lambda after=last_query: pool.fetchval(
                "select max(query_start) from pg_stat_activity where datname = current_database()"
                " and query like 'select j.state, j.pl%'"
                " and ($1::timestamptz is null or query_start > $1)",
                after,
            ),
            deadline_seconds=20,
            what="the stream reads the job",
        )
    assert not following.done()
    await runner.work(job)
    answer = await following
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ": still there\n\n" in answer.text
    (first, *_, last) = events = parse_events(answer.text)
    assert first == (
        "progress",
        {"state": "planning", "done": 0, "planned": 0, "percent": None},
    )
    assert last == ("ended", {"state": "completed", "done": 2, "planned": 2, "percent": 100.0})
    assert [name for name, _ in events[:-1]] == ["progress"] * (len(events) - 1)
    assert len({str(event) for event in events}) == len(events)
    again = await http.get(f"/v1/jobs/{job}/events", headers=key)
    assert parse_events(again.text) == [last]


async def test_a_shutdown_ends_streams_and_waiting_requests(http, app, key):
    """At a shutdown streams end, and waiting requests return the job's present state. The log lines
    of both have the time that they waited on purpose.
    """
    with capture_logs() as lines:
        job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
        started = time.monotonic()
        following = asyncio.create_task(http.get(f"/v1/jobs/{job}/events", headers=key))
        waiting = asyncio.create_task(
            http.get(f"/v1/jobs/{job}", headers={**key, "Prefer": "wait=25"})
        )
        requests = {following, waiting}
        done, _ = await asyncio.wait(requests, timeout=0.2)
        assert not done
        app.state.sluice.shutting_down.set()
        done, _ = await asyncio.wait(requests, timeout=5)
        assert done == requests
    elapsed_ms = 1000 * (time.monotonic() - started)
    answered = [line for line in lines if line["event"] == "request.answered"]
    waited = {(line["method"], line["route"]): line.get("waited_ms") for line in answered}
    assert waited.pop(("POST", "/v1/jobs")) is None
    assert waited.keys() == {
        ("GET", "/v1/jobs/{job_id}"),
        ("GET", "/v1/jobs/{job_id}/events"),
    }
    for line in answered[1:]:
        # Each of the two is rounded.
        assert line["duration_ms"] < line["duration_ms"] + line["waited_ms"] <= elapsed_ms + 0.2
    assert [name for name, _ in parse_events((await following).text)] == ["progress"]
    assert (await waiting).json()["state"] == "planning"


async def test_streams_that_start_together_are_limited(http, app, key):
    """Streams that start together do not exceed their key's limit, and release their slots."""
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    limit = app.state.sluice.settings.max_concurrent_streams
    streams = [
        asyncio.create_task(http.get(f"/v1/jobs/{job}/events", headers=key))
        for _ in range(3 * limit)
    ]
    await wait_until_async(
        lambda: asyncio.sleep(0, sum(each.done() for each in streams) >= 2 * limit),
        deadline_seconds=20,
        what="the streams beyond the limit are rejected",
    )
    app.state.sluice.shutting_down.set()
    statuses = [answer.status_code for answer in await asyncio.gather(*streams)]
    assert sorted(statuses) == [200] * limit + [429] * 2 * limit
    assert app.state.sluice.event_streams.total() == 0


async def test_the_log_line_of_a_request_has_its_job_and_problem(http, key):
    """The log line has the job, the problem and the time waited on purpose, apart from the
    duration.
    """
    with capture_logs() as lines:
        wait = {**key, "Prefer": "wait=1"}
        started = time.perf_counter()
        job = (await http.post("/v1/jobs", headers=wait, json=OPT_OUT)).json()["id"]
        elapsed_ms = (time.perf_counter() - started) * 1000
        await http.post(f"/v1/jobs/{job}/pause", headers=key)
        await http.get(f"/v1/jobs/{job + 1}", headers=key)
    created, paused, missing = [line for line in lines if line["event"] == "request.answered"]
    assert (created["job"], created["http_status"], "problem" in created) == (job, 202, False)
    assert created["waited_ms"] > 0
    # Each is rounded to a tenth. The wait counts in one of the two, not in both.
    assert created["duration_ms"] + created["waited_ms"] <= elapsed_ms + 0.1
    assert (paused["job"], paused["http_status"], "waited_ms" in paused) == (job, 200, False)
    assert (missing["problem"], missing["http_status"], "job" in missing) == (
        "not-found",
        404,
        False,
    )
