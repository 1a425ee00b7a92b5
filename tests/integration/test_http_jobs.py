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

NOTED = '{"action": "opt_out", "params": {"note": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}}'

OPT_OUT = {"action": "opt_out", "selection": {"all": True}}

OPT_IN = {"action": "opt_in", "selection": {"all": True}, "fields": ["email1", "email2"]}


@pytest.fixture
async def key(key_of):
    """Make a key of the default account with all scopes, as headers."""
    return await key_of()


@pytest.fixture
def works(pool, settings):
    """AccountDriver jobs as workers do."""
    return InProcessRunner(pool, settings, chunk_size=2, parallel=1)


async def two_people(pool):
    """Two contacts of the default account, one of whom opted out."""
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


async def test_a_job_is_stored_and_shown_as_it_was_asked_for(http, key):
    """The answer is the job and where it is found; the key asks, unless somebody is named."""
    answer = await http.post(
        "/v1/jobs",
        headers={**key, "Idempotency-Key": "spring", "X-Correlation-Id": "abc"},
        json={**OPT_IN, "evidence": EVIDENCE, "selection": {"contacts": [3, 1, 3]}},
    )
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (await http.get(answer.headers["location"], headers=key)).json() == job
    asked = ("action", "state", "fields", "selection", "evidence", "requested_by")
    assert [job[name] for name in asked] == [
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
    named = {**OPT_OUT, "requested_by": "Eve", "params": {"note": "moved"}}
    job = (await http.post("/v1/jobs", headers=key, json=named)).json()
    assert (job["requested_by"], job["params"]["note"]) == ("Eve", "moved")


async def test_a_job_may_list_addresses_or_be_planned_first(http, key, pool):
    """The field of listed addresses is the address itself; what is to be planned first is kept."""
    listed = {"action": "opt_out", "selection": {"addresses": ["A@x.example", "a@X.example"]}}
    job = (await http.post("/v1/jobs", headers=key, json=listed)).json()
    assert (job["fields"], job["selection"]) == (["address"], {"addresses": 1})
    # No worker is there to count it.
    at_once = key | {"Prefer": "wait=0"}
    planned = await http.post("/v1/jobs", headers=at_once, json={**OPT_OUT, "mode": "plan"})
    assert planned.status_code == 202, planned.text
    assert await pool.fetch("select id, plan_first from jobs order by id") == [
        (job["id"], False),
        (planned.json()["id"], True),
    ]


async def test_a_key_stands_for_one_request(http, key):
    """The same request again is answered with the same job, another one with the same key not."""
    keyed = {**key, "Idempotency-Key": "k"}
    first = await http.post("/v1/jobs", headers=keyed, json=OPT_OUT)
    again = await http.post("/v1/jobs", headers=keyed, json=OPT_OUT)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    other = await http.post("/v1/jobs", headers=keyed, json={**OPT_OUT, "fields": ["email2"]})
    assert "is of a different request" in problem_detail(other, 409, "idempotency-key-reused")
    for wrong in ("", "x" * 201):
        refused = await http.post(
            "/v1/jobs", headers={**key, "Idempotency-Key": wrong}, json=OPT_OUT
        )
        assert "the header `idempotency-key`" in problem_detail(refused, 422, "invalid")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**OPT_OUT, "account": "other"}, "`account`: Unknown field. Valid fields: action,"),
        (
            {**OPT_OUT, "selection": {"all": True, "tags": "x"}},
            "`selection.tags`: Unknown field",
        ),
        ({**OPT_OUT, "params": {"colour": "red"}}, "`params.colour`: Unknown field"),
        ({**OPT_OUT, "selection": {}}, "Give a condition"),
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
async def test_a_wrong_request_is_refused_by_name(http, key, pool, body, said):
    """Each mistake is named as the caller wrote it, and nothing is stored."""
    answer = await http.post("/v1/jobs", headers=key, json=body)
    assert said in problem_detail(answer, 422, "invalid")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_all_that_is_missing_of_the_evidence_is_asked_for_at_once(http, key):
    """The prompts come as members of the problem."""
    answer = await http.post("/v1/jobs", headers=key, json={**OPT_IN, "evidence": {}})
    problem_detail(answer, 422, "evidence-missing")
    assert {prompt["field"] for prompt in answer.json()["prompts"]} == {
        *("source", "description", "collected_from", "collected_until", "attested_by")
    }


async def test_a_byte_order_mark_before_a_body_is_passed_over(http, key):
    """Some editors put it there, and it says nothing but that the text is UTF-8."""
    marked = json.dumps(OPT_OUT).encode("utf-8-sig")
    in_json = {**key, "Content-Type": "application/json"}
    answer = await http.post("/v1/jobs", headers=in_json, content=marked)
    assert answer.status_code == 202, answer.text


async def test_a_body_that_cannot_be_read_is_refused(http, key, settings):
    """What is no JSON, says that it is something else, or is too large."""
    in_json = {**key, "Content-Type": "application/json"}
    for text in ("{", "", "[1, 2", '{"action": "\\ud800"}'):
        answer = await http.post("/v1/jobs", headers=in_json, content=text)
        assert "is not JSON" in problem_detail(answer, 400, "malformed")
    for path, charset in itertools.product(
        ("/v1/jobs", "/v1/jobs/1/apply"), ("", "; charset=cp1252")
    ):
        says = {**key, "Content-Type": f"application/json{charset}"}
        answer = await http.post(path, headers=says, content=NOTED.encode("cp1252"))
        assert "is not text in UTF-8" in problem_detail(answer, 400, "malformed")
        assert "charset" in answer.text
    answer = await http.post("/v1/jobs", headers=key, content="{}")
    assert "Content-Type" in problem_detail(answer, 415, "unsupported-media-type")
    large = json.dumps({**OPT_OUT, "params": {"note": "x" * settings.max_body_bytes}})
    answer = await http.post("/v1/jobs", headers=in_json, content=large)
    assert "bytes" in problem_detail(answer, 413, "body-too-large")

    async def parts():
        for start in range(0, len(large), 100_000):
            yield large[start : start + 100_000].encode()

    problem_detail(
        await http.post("/v1/jobs", headers=in_json, content=parts()), 413, "body-too-large"
    )


async def test_a_worked_job_tells_what_became_of_it(http, key, pool, works):
    """Counts by outcome and reason, how much is done, and how fast it went."""
    await two_people(pool)
    asked = {**OPT_IN, "evidence": EVIDENCE}
    job = (await http.post("/v1/jobs", headers=key, json=asked)).json()["id"]
    await works.work(job)
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


async def test_a_running_job_tells_its_pace(http, key, pool):
    """What was done in the last seconds says how long the rest will take."""
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
    """Each answers with the job as it is then; what its state does not allow is refused."""
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


async def test_another_accounts_job_is_not_there(http, key, key_of):
    """Whatever is asked about it, the answer is that of a job which never was."""
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    stranger = await key_of("other")
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
            await http.request(method, f"/v1/jobs/{number}{path}", headers=stranger)
            for number in (job, 2**63 - 1, 2**70, 0, -1)
        ]
        assert [problem_detail(answer, 404, "not-found") for answer in answers] == [
            f"{named} does not exist. GET /v1/jobs lists the account's jobs."
            for named in (f"Job {job}", f"Job {2**63 - 1}", *["This job"] * 3)
        ]
    assert (await http.get("/v1/jobs", headers=stranger)).json() == {"jobs": [], "next": None}
    selected = {"action": "opt_out", "selection": {"import_job": job}}
    problem_detail(await http.post("/v1/jobs", headers=stranger, json=selected), 404, "not-found")
    assert (await http.get(f"/v1/jobs/{job}", headers=key)).json()["state"] == "planning"


async def test_a_key_does_what_its_scope_allows(http, key_of):
    """One that reads does not write, and the other way round."""
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


async def many_jobs(pool, account_id, count, evidence=None):
    """Jobs of two accounts in turn; every third is cancelled, every second is an opt-in."""
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
    looked_at=st.integers(1, 60),
    state=st.sampled_from([None, "cancelled", "planning", "failed"]),
    action=st.sampled_from([None, "opt_in", "no_such_action"]),
)
async def test_pages_of_jobs_are_all_of_them_once(
    http, key, pool, monkeypatch, limit, looked_at, state, action
):
    """Whatever the size of a page and the filter, each job comes once, the newest first."""
    monkeypatch.setattr(db_jobs, "MAX_SCANNED_JOBS", looked_at)
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    if not await pool.fetchval("select exists (select from jobs)"):
        await many_jobs(pool, account_id, 80)
    asked = {"limit": limit, "state": state, "action": action}
    asked = {name: value for name, value in asked.items() if value is not None}
    found, pages = [], 0
    cursor = {}
    while cursor is not None:
        page = (await http.get("/v1/jobs", headers=key, params={**asked, **cursor})).json()
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
    assert pages <= 2 + 40 // min(limit, looked_at)


async def test_pages_of_jobs_with_long_evidence_are_short(http, key, pool):
    """However many are asked for, a page is soon sent and read, and all of them come."""
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    texts = dict.fromkeys(("description", "notice_text", "provider"), "€" * 10_000)
    await many_jobs(pool, account_id, 40, texts)
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


async def test_requests_of_an_account_have_so_many_turns(http, key, key_of, pool, app):
    """One more waits for one of its own account, and for none of another. One that waits on purpose
    has none meanwhile.
    """
    other = await key_of("other")
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    state = app.state.sluice
    number = web_state.REQUESTS_PER_CONNECTION * state.settings.web_pool_size
    *held, last = [await state.request_slots.acquire(account_id) for _ in range(number)]

    async def listed(headers):
        return (await http.get("/v1/jobs", headers=headers)).status_code

    own = asyncio.create_task(listed(key))
    assert await listed(other) == 200
    assert not own.done()
    last()
    assert await own == 200
    patient = asyncio.create_task(http.get(f"/v1/jobs/{job}", headers={**key, "Prefer": "wait=20"}))
    await wait_until_async(
        lambda: state.waiting_requests, deadline_seconds=5, what="it waits on purpose"
    )
    assert await listed(key) == 200
    assert not patient.done()
    patient.cancel()
    for give_back in held:
        give_back()
        give_back()
    again = [await state.request_slots.acquire(account_id) for _ in range(number)]
    assert len(again) == number


async def test_a_long_list_waits_for_no_other_accounts(http, key, pool, app, monkeypatch):
    """Of one account one long list is stored at a time; a short one, and those of others, are
    stored meanwhile.
    """
    monkeypatch.setattr(jobs_routes, "_LONG_LIST_ITEMS", 2)
    await two_people(pool)
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    long, short = ({"selection": {"contacts": [1, 2, 3][:n]}} for n in (3, 2))

    async def stored(asked):
        return (await http.post("/v1/jobs", headers=key, json=OPT_OUT | asked)).status_code == 202

    turns = app.state.sluice.long_list_slots
    async with turns.hold("another account"):
        assert await stored(long)
    async with turns.hold(account_id):
        waiting = asyncio.create_task(stored(long))
        assert await stored(short)
        assert not waiting.done()
    assert await waiting


@pytest.mark.parametrize("cursor", ["x", "W10", "WzFd" * 40, "WyJhIl0", "WzFlOTldCg", "é"])
async def test_a_made_up_cursor_is_refused(http, key, cursor):
    """It is no server error, and no page from the beginning either."""
    answer = await http.get("/v1/jobs", headers=key, params={"cursor": cursor})
    problem_detail(answer, 422, "invalid")


async def test_who_prefers_to_wait_is_answered_when_the_job_rests(http, key, pool):
    """The answer comes after the job has ended; the wait that counts is told."""
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
        what="somebody asks for the job's state",
    )
    assert not waiting.done()
    await http.post(f"/v1/jobs/{job}/pause", headers=key)
    answer = await waiting
    assert answer.json()["state"] == "paused"
    assert answer.headers["preference-applied"] == "wait=25"
    unheard = await http.get(f"/v1/jobs/{job}", headers={**key, "Prefer": "wait=soon"})
    assert "preference-applied" not in unheard.headers


async def test_so_many_requests_of_a_key_wait(http, app, key, monkeypatch):
    """One more is answered without waiting, and told so; when one has ended another waits."""
    monkeypatch.setattr(prefer_wait, "MAX_WAITING_PER_KEY", 2)
    state = app.state.sluice
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    wait = {**key, "Prefer": "wait=25"}
    two = {asyncio.create_task(http.get(f"/v1/jobs/{job}", headers=wait)) for _ in range(2)}
    await wait_until_async(
        lambda: asyncio.sleep(0, state.waiting_requests.total() == 2),
        deadline_seconds=20,
        what="both wait",
    )
    more = await http.get(f"/v1/jobs/{job}", headers=wait)
    assert (more.status_code, more.json()["state"]) == (200, "planning")
    assert "preference-applied" not in more.headers
    assert not any(each.done() for each in two)
    await http.post(f"/v1/jobs/{job}/pause", headers=key)
    assert {(await each).headers["preference-applied"] for each in two} == {"wait=25"}
    assert not state.waiting_requests.total()


async def test_each_mistake_of_a_job_has_its_place(http, key):
    """Programs find in `errors` what `detail` tells people: of a body, of the `job` of a form,
    of an action's own parameters, and of what does not go together, whatever has found them.
    """
    body = {"action": "opt_out", "selection": {"tags": "x", "contacts": ["one"]}, "feilds": []}
    none = {"action": "opt_out", "selection": {"addresses": ["ann@x.example", "nobody"]}}
    for sent, places in (
        ({"json": body}, {"selection.tags", "selection.contacts.0", "feilds"}),
        ({"json": none}, {"selection.addresses.1"}),
        (
            {"json": {**OPT_OUT, "params": {"kind": "x", "noet": "x"}}},
            {"params.kind", "params.noet"},
        ),
        ({"json": {**OPT_OUT, "evidence": {}}}, {"evidence"}),
        ({"json": {**OPT_OUT, "action": "import"}}, {"action"}),
        ({"json": {**none, "action": "opt_in"}}, {"selection.addresses"}),
        ({"json": {**OPT_OUT, "completion_url": "http://127.0.0.1/"}}, {"completion_url"}),
        (
            {"data": {"job": '{"action": 1, "mode": "look"}'}, "files": {"contacts": b"1\n"}},
            {"action", "mode"},
        ),
    ):
        told = (await http.post("/v1/jobs", headers=key, **sent)).json()
        assert told["type"] == "urn:sluice:problem:invalid"
        assert {each["location"] for each in told["errors"]} == {f"body.{name}" for name in places}
        for each in told["errors"]:
            where = each["location"].removeprefix("body.")
            assert f"\n  {format_field_error(FieldError(where, each['message']))}" in told["detail"]


def events(text):
    """Names and data of the events of a stream."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_a_job_is_followed_to_its_end(http, key, pool, works, monkeypatch):
    """Each change is told once, as it was; comments keep the line open; after the end nothing."""
    monkeypatch.setattr(job_events, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(job_events, "HEARTBEAT_SECONDS", 0.0)
    await two_people(pool)
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    following = asyncio.create_task(http.get(f"/v1/jobs/{job}/events", headers=key))
    looked = None
    # At the third look the second has found nothing new, which the stream says.
    for _ in range(3):
        looked = await wait_until_async(
            lambda after=looked: pool.fetchval(
                "select max(query_start) from pg_stat_activity where datname = current_database()"
                " and query like 'select j.state, j.pl%'"
                " and ($1::timestamptz is null or query_start > $1)",
                after,
            ),
            deadline_seconds=20,
            what="somebody follows the job",
        )
    assert not following.done()
    await works.work(job)
    answer = await following
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ": still there\n\n" in answer.text
    (first, *_, last) = told = events(answer.text)
    assert first == (
        "progress",
        {"state": "planning", "done": 0, "planned": 0, "percent": None},
    )
    assert last == ("ended", {"state": "completed", "done": 2, "planned": 2, "percent": 100.0})
    assert [name for name, _ in told[:-1]] == ["progress"] * (len(told) - 1)
    assert len({str(event) for event in told}) == len(told)
    again = await http.get(f"/v1/jobs/{job}/events", headers=key)
    assert events(again.text) == [last]


async def test_who_follows_or_waits_is_let_go_when_the_process_ends(http, app, key):
    """A restart waits for nobody: streams end, and who waits has the job as it stands. The lines of
    both tell that they waited on purpose, and that of a request which did not says nothing of it.
    """
    with capture_logs() as lines:
        job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
        began = time.monotonic()
        following = asyncio.create_task(http.get(f"/v1/jobs/{job}/events", headers=key))
        waiting = asyncio.create_task(
            http.get(f"/v1/jobs/{job}", headers={**key, "Prefer": "wait=25"})
        )
        asked = {following, waiting}
        done, _ = await asyncio.wait(asked, timeout=0.2)
        assert not done
        app.state.sluice.shutting_down.set()
        done, _ = await asyncio.wait(asked, timeout=5)
        assert done == asked
    took_ms = 1000 * (time.monotonic() - began)
    answered = [line for line in lines if line["event"] == "request.answered"]
    waited = {(line["method"], line["route"]): line.get("waited_ms") for line in answered}
    assert waited.pop(("POST", "/v1/jobs")) is None
    assert waited.keys() == {
        ("GET", "/v1/jobs/{job_id}"),
        ("GET", "/v1/jobs/{job_id}/events"),
    }
    for line in answered[1:]:
        # Each of the two is rounded.
        assert line["duration_ms"] < line["duration_ms"] + line["waited_ms"] <= took_ms + 0.2
    assert [name for name, _ in events((await following).text)] == ["progress"]
    assert (await waiting).json()["state"] == "planning"


async def test_streams_that_begin_together_are_counted_each(http, app, key):
    """Of many at one moment no more are let in than one key may have, and all give their places
    back.
    """
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    most = app.state.sluice.settings.max_concurrent_streams
    asked = [
        asyncio.create_task(http.get(f"/v1/jobs/{job}/events", headers=key))
        for _ in range(3 * most)
    ]
    await wait_until_async(
        lambda: asyncio.sleep(0, sum(each.done() for each in asked) >= 2 * most),
        deadline_seconds=20,
        what="those beyond the limit are refused",
    )
    app.state.sluice.shutting_down.set()
    statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert sorted(statuses) == [200] * most + [429] * 2 * most
    assert app.state.sluice.event_streams.total() == 0


async def test_the_line_of_a_request_tells_its_job_and_its_problem(http, key):
    """Which job it made or was about, by which problem it ended, and what it waited on purpose
    apart from what it took.
    """
    with capture_logs() as lines:
        wait = {**key, "Prefer": "wait=1"}
        began = time.perf_counter()
        job = (await http.post("/v1/jobs", headers=wait, json=OPT_OUT)).json()["id"]
        took_ms = (time.perf_counter() - began) * 1000
        await http.post(f"/v1/jobs/{job}/pause", headers=key)
        await http.get(f"/v1/jobs/{job + 1}", headers=key)
    made, paused, missing = [line for line in lines if line["event"] == "request.answered"]
    assert (made["job"], made["http_status"], "problem" in made) == (job, 202, False)
    assert made["waited_ms"] > 0
    # Each is rounded to a tenth. What was waited stands in one of the two and not in both.
    assert made["duration_ms"] + made["waited_ms"] <= took_ms + 0.1
    assert (paused["job"], paused["http_status"], "waited_ms" in paused) == (job, 200, False)
    assert (missing["problem"], missing["http_status"], "job" in missing) == (
        "not-found",
        404,
        False,
    )
