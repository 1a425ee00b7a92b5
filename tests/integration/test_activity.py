"""Activity records each event with its actor, in the event's transaction, for its account only."""

import asyncio
import json

import asyncpg
import pytest
from structlog.testing import capture_logs

from db.activity import list_activity
from producers import control
from producers.hooks import create_hook, revoke_hook
from producers.immediate_opt_out import opt_out_immediately
from producers.keys import Scope, create_key, revoke_key
from producers.one_click import one_click_url
from producers.plans import REQUIRED_COUNTS
from producers.submit import submit
from schemas.actors import CLI
from schemas.requests import JobRequest, Selection
from tests.integration.test_plans import PlanDriver
from tests.kit.commands import run_sluice
from tests.kit.hook_messages import post_events

EVE = {"requested_by": "Eve of the Marketing"}
BULK = {"action": "opt_out", "selection": {"all": True}}
ACTOR_FIELDS = ("requested_by", "actor", "via")


@pytest.fixture
def command_environment(monkeypatch, settings, tmp_path):
    """Point the commands at the test's own database and queue through the environment."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("QUEUE_NAMESPACE", settings.queue_namespace)
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setenv("SIGNING_KEYS", settings.signing_keys.get_secret_value())
    monkeypatch.chdir(tmp_path)


async def sluice(*words: str):
    """Run the command in another thread, since it has its own event loop, and return its result."""
    result = await asyncio.to_thread(run_sluice, *words)
    assert result.exit_code == 0, result.output
    return result


def read_log_lines(capfd) -> list[dict]:
    """Return the log lines that commands have written since the last call."""
    lines = capfd.readouterr().err.splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"timestamp"')]


async def stored_activity(pool: asyncpg.Pool, **of) -> list[tuple]:
    """Return the stored activity, oldest first: event, actor, entry point, and the job, key or
    hook.
    """
    async with pool.acquire() as connection:
        rows = await list_activity(connection, account_id=None, limit=1000, **of)
    return [
        (row.event, row.actor, row.via, row.job_id or row.key_id or row.hook_id)
        for row in reversed(rows)
    ]


async def key_id_of(headers) -> int:
    """Return the id that a key contains."""
    return int(headers["Authorization"].split("_")[1])


async def test_each_entry_point_records_its_actor(
    http, pool, settings, shop, key_of, command_environment, tmp_path, capfd
):
    """Each entry point records the same actor in the job, in `activity` and in the log. What the
    body says in `requested_by` makes no difference.
    """
    key = await key_of("shop")
    key_id = await key_id_of(key)
    hook = await create_hook(pool, settings, account="shop", source="keap")
    (tmp_path / "list.csv").write_text("Email\nnew@example.com\n")
    address_id = await pool.fetchval(
        "select id from email_addresses where match_key = 'ann@example.com'"
    )
    link = one_click_url(settings, "http://sluice.test", shop, address_id)
    opt_out = {"address": "eve@example.com", "kind": "manual", "source": "centre"}
    event = {"email": "bob@example.com", "event_id": "1"}
    with capture_logs() as lines:
        await http.post("/v1/jobs", headers=key, json=BULK | EVE)
        form = {"job": (None, json.dumps(BULK | {"selection": {}} | EVE)), "contacts": b"id\n1\n"}
        await http.post("/v1/jobs", headers=key, files=form)
        await http.post("/v1/opt-outs", headers=key, json=opt_out)
        await http.post(hook.form_path, data={"email": "family@example.com"})
        await post_events(http, hook, [event])
        await http.post(link, data={"List-Unsubscribe": "One-Click"})
        await http.post(link, data={"confirm": "yes"})
        request = JobRequest(
            account="shop", action="opt_out", selection=Selection(contacts=(1,)), requested_by="me"
        )
        await submit(pool, settings, request)
        await opt_out_immediately(pool, settings, request)
    await sluice("import", "list.csv", "--no-permission", "--account", "shop")
    await sluice("submit", "opt-out", "--all", "--account", "shop")
    command_lines = read_log_lines(capfd)
    by_key, by_hook = f"key:{key_id}", f"hook:{hook.id}"
    expected = [
        *[(by_key, "http")] * 3,
        (by_hook, "hook_form"),
        (by_hook, "hook_events"),
        ("link", "one_click"),
        ("link", "unsubscribe_page"),
        *[("python", "python")] * 2,
        *[("cli", "cli")] * 2,
    ]
    rows = await pool.fetch(
        "select id, actor_kind || coalesce(':' || actor_id, '') as actor, via from jobs order by id"
    )
    assert [tuple(row)[1:] for row in rows] == expected
    assert [each for each in await stored_activity(pool) if each[0] == "job.submitted"] == [
        ("job.submitted", row["actor"], row["via"], row["id"]) for row in rows
    ]
    submitted = [line for line in [*lines, *command_lines] if line["event"] == "job.submitted"]
    assert [(line["actor"], line["via"]) for line in submitted] == expected
    received = [line for line in lines if line["event"] == "opt_out.received"]
    assert [(line["actor"], line["via"]) for line in received] == expected[2:7]
    named = await pool.fetchval("select count(*) from activity t where t::text like '%Eve%'")
    assert named == 0
    assert "Eve" not in str([*lines, *command_lines])


async def test_an_actor_cannot_be_forged(http, pool, shop, key_of):
    """`requested_by` is shown as sent, next to the key. No body can set the actor."""
    key = await key_of("shop")
    actor = f"key:{await key_id_of(key)}"
    for forged in ({"actor": "cli"}, {"via": "cli"}, {"actor_kind": "cli"}, {"actor_id": 1}):
        refused = await http.post("/v1/jobs", headers=key, json=BULK | forged)
        assert refused.status_code == 422
    for body, requested_by in ((BULK, "a service of shop"), (BULK | EVE, EVE["requested_by"])):
        job = (await http.post("/v1/jobs", headers=key, json=body)).json()
        assert [job[name] for name in ACTOR_FIELDS] == [requested_by, actor, "http"]
        listed = (await http.get("/v1/jobs", headers=key)).json()["jobs"][0]
        assert [listed[name] for name in ACTOR_FIELDS] == [requested_by, actor, "http"]
    opt_out = {"address": "eve@example.com", "kind": "manual", "source": "centre"}
    await http.post("/v1/opt-outs", headers=key, json=opt_out)
    answer = await http.get("/v1/addresses/eve@example.com", headers=key)
    (entry,) = answer.json()["history"]
    assert [entry[name] for name in ACTOR_FIELDS] == ["a service of shop", actor, "http"]


async def test_the_command_line_shows_the_actor_and_requested_by(
    http, shop, key_of, command_environment
):
    """Lists of jobs, a job and an address's history show the actor next to `requested_by`."""
    key = await key_of("shop")
    actor = f"key:{await key_id_of(key)}"
    opt_out = {"address": "eve@example.com", "kind": "manual", "source": "centre"}
    job = (await http.post("/v1/opt-outs", headers=key, json=opt_out)).json()["job_id"]
    (listed,) = json.loads((await sluice("jobs", "--json")).stdout)
    assert (listed["actor"], listed["via"]) == (actor, "http")
    assert actor in (await sluice("jobs")).stdout
    shown = json.loads((await sluice("job", str(job), "--json")).stdout)
    assert (shown["actor"], shown["via"]) == (actor, "http")
    assert f"{actor}, via http" in (await sluice("job", str(job))).stdout
    words = ("address", "eve@example.com", "--account", "shop")
    assert f"a service of shop ({actor})" in (await sluice(*words)).stdout
    (entry,) = json.loads((await sluice(*words, "--json")).stdout)["history"]
    assert (entry["actor"], entry["via"]) == (actor, "http")


async def test_each_change_of_state_is_stored_once(
    http, pool, settings, shop, key_of, command_environment, capfd
):
    """Each change of state is stored and logged once, with its actor and its request. Repeated
    requests that change nothing and refused requests are not stored.
    """
    key = await key_of("shop")
    key_id = await key_id_of(key)
    other = await key_of("other")
    headers = {**key, "X-Correlation-Id": "the-asking"}
    with capture_logs() as lines:
        job = (await http.post("/v1/jobs", headers=key, json=BULK)).json()
        path = f"/v1/jobs/{job['id']}"
        for word in ("pause", "pause", "resume", "resume"):
            assert (await http.post(f"{path}/{word}", headers=other)).status_code == 404
            assert (await http.post(f"{path}/{word}", headers=headers)).status_code == 200
        await control.pause(pool, settings, None, job["id"])
        await sluice("cancel", str(job["id"]))
        assert (await http.post(f"{path}/resume", headers=headers)).status_code == 409
        await http.post(f"{path}/cancel", headers=headers)
    expected = [
        ("job.paused", f"key:{key_id}", "http", "the-asking"),
        ("job.resumed", f"key:{key_id}", "http", "the-asking"),
        ("job.paused", "python", "python", None),
        ("job.cancelled", "cli", "cli", None),
    ]
    changes = {each[0] for each in expected}
    log = [line for line in [*lines, *read_log_lines(capfd)] if line["event"] in changes]
    assert [
        (x["event"], x["actor"], x["via"], x["request_correlation_id"]) for x in log
    ] == expected
    assert {line["correlation_id"] for line in log} == {job["correlation_id"]}
    answer = await http.get("/v1/activity", headers=key, params={"job_id": job["id"]})
    rows = answer.json()["activity"][::-1]
    assert [(x["event"], x["actor"], x["via"], x["correlation_id"]) for x in rows] == [
        ("job.submitted", f"key:{key_id}", "http", job["correlation_id"]),
        *expected,
    ]
    assert {row["job_id"] for row in rows} == {job["id"]}


async def test_a_confirmation_is_stored_with_its_actor(http, pool, settings, shop, key_of):
    """A confirmation stores the key, the counts that were seen and the request. Repeating the
    confirmation stores nothing more.
    """
    key = await key_of("shop")
    actor = f"key:{await key_id_of(key)}"
    headers = {**key, "X-Correlation-Id": "the-yes", "Prefer": "wait=0"}
    planned = PlanDriver(pool, settings, chunk_size=10)
    answer = await http.post("/v1/jobs", headers=headers, json=BULK | {"mode": "plan"})
    job_id = answer.json()["id"]
    await planned.count(job_id)
    forecast = (await planned.job(job_id)).forecast
    body = {"expected": {name: forecast[name] for name in REQUIRED_COUNTS}, "confirmed_by": "Eve"}
    with capture_logs() as lines:
        for _ in range(2):
            answer = await http.post(f"/v1/jobs/{job_id}/apply", headers=headers, json=body)
            confirmation = answer.json()["confirmation"]
            assert [confirmation[name] for name in ("by", "actor", "via")] == ["Eve", actor, "http"]
    (line,) = [line for line in lines if line["event"] == "plan.applied"]
    assert (line["actor"], line["via"], line["request_correlation_id"]) == (
        actor,
        "http",
        "the-yes",
    )
    (row,) = await pool.fetch("select * from activity where event = 'plan.applied'")
    assert (row["job_id"], row["correlation_id"]) == (job_id, "the-yes")
    assert row["detail"] == {"expected": body["expected"], "tolerance": 0}


async def test_activity_of_keys_hooks_and_secrets_is_stored_with_its_actor(
    pool, settings, command_environment, capfd
):
    """Creation, renewal and revocation are stored once each, without names or secrets. Revoking
    again stores nothing.
    """
    for words in (
        ("keys", "create", "a service", "--scope", "jobs:read"),
        ("keys", "revoke", "1"),
        ("keys", "revoke", "1"),
        ("hooks", "create", "--source", "keap"),
        ("hooks", "renew", "1", "--former-days", "3"),
        ("hooks", "revoke", "1"),
        ("hooks", "revoke", "1"),
        ("accounts", "secret", "default"),
        ("accounts", "renew-secret", "default"),
    ):
        await sluice(*words)
    lines = read_log_lines(capfd)
    expected = [
        *("key.created", "key.revoked", "hook.created", "hook.renewed", "hook.revoked"),
        "account.secret_renewed",
    ]
    ids = [*[1] * 5, None]
    assert await stored_activity(pool) == [
        (event, "cli", "cli", id_) for event, id_ in zip(expected, ids, strict=True)
    ]
    assert [line["event"] for line in lines] == expected
    assert {(line["actor"], line["via"], line["account"]) for line in lines} == {("cli", "cli", 1)}
    details = await pool.fetch("select detail from activity order by id")
    assert [row["detail"] for row in details] == [
        {"scopes": ["jobs:read"]},
        None,
        {"source": "keap"},
        {"former_days": 3},
        None,
        None,
    ]
    await sluice("accounts", "create", "shop")
    assert (await stored_activity(pool))[6:] == [("account.created", "cli", "cli", None)]
    key = await create_key(pool, account="default", name="x", scopes=[Scope.JOBS_READ])
    await revoke_key(pool, key.id)
    hook = await create_hook(pool, settings, account="default", source="x")
    await revoke_hook(pool, hook.id)
    assert {each[1] for each in (await stored_activity(pool))[7:]} == {"python"}
    listed = (await sluice("activity", "--limit", "3")).stdout
    assert f"key {key.id}" not in listed.splitlines()[1]
    assert "sluice activity --before 9` lists older ones." in listed.replace("\n", " ")
    assert "Nothing was done before" in (await sluice("activity", "--before", "1")).stdout
    assert "Nothing was done" in (await sluice("activity", "--job", "7")).stdout


async def test_an_account_sees_its_own_activity_only(http, pool, key_of):
    """An account reads its own activity in pages, newest first. Another account's job has none,
    like a job that does not exist.
    """
    shop, other = await key_of("shop"), await key_of("other")
    jobs = [(await http.post("/v1/jobs", headers=shop, json=BULK)).json()["id"] for _ in range(3)]
    pages, cursor = [], None
    while cursor or not pages:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await http.get("/v1/activity", headers=shop, params=params)).json()
        pages.append(page["activity"])
        cursor = page["next"]
    rows = [row for page in pages for row in page]
    assert [row["job_id"] for row in rows] == [*reversed(jobs), None]
    assert rows[-1]["event"] == "key.created"
    seen = (await http.get("/v1/activity", headers=other)).json()["activity"]
    assert [row["event"] for row in seen] == ["key.created"]
    for job in (jobs[0], 10**9):
        answer = await http.get("/v1/activity", headers=other, params={"job_id": job})
        assert answer.json() == {"activity": [], "next": None}
    unable = await key_of("shop", "jobs:write", "opt_outs:write", "addresses:read")
    assert (await http.get("/v1/activity", headers=unable)).status_code == 403
    assert (await http.get("/v1/activity")).status_code == 401
    for wrong in ({"job_id": 0}, {"job_id": "x"}, {"cursor": "x"}, {"account": "shop"}):
        assert (await http.get("/v1/activity", headers=shop, params=wrong)).status_code == 422


async def test_a_job_inserted_without_sluice_has_no_actor(
    http, pool, shop, key_of, command_environment
):
    """Such a job is shown without an actor and violates no invariant."""
    key = await key_of("shop")
    job = await pool.fetchval(
        "insert into jobs (account_id, action, fields, selection, requested_by, request_hash,"
        " correlation_id) values ($1, 'opt_out', '{1}', '{\"all\": true}', 'x', '', '')"
        " returning id",
        shop,
    )
    shown = (await http.get(f"/v1/jobs/{job}", headers=key)).json()
    assert [shown[name] for name in ACTOR_FIELDS] == ["x", None, None]
    assert "actor" not in (await sluice("job", str(job))).stdout
    await sluice("cancel", str(job))
    await sluice("verify")
    assert await stored_activity(pool, job_id=job) == [("job.cancelled", "cli", "cli", job)]


async def test_an_event_of_a_newer_version_is_listed(pool, http, key_of, shop, command_environment):
    """While two versions run together, the older one lists an event that it does not know."""
    await pool.execute(
        "insert into activity (account_id, event, actor_kind, via) values"
        " ($1, 'account.merged', 'cli', 'cli')",
        shop,
    )
    listed = (await http.get("/v1/activity", headers=await key_of("shop"))).json()
    assert "account.merged" in {each["event"] for each in listed["activity"]}
    assert "account.merged" in (await sluice("activity")).stdout


INSERT_EVENT = (
    "insert into activity (account_id, event, actor_kind, via, {columns}) values (1, 'x', {values})"
)
"""An insert of an event with an incomplete actor, or about nothing or about two things."""


@pytest.mark.parametrize(
    "change",
    [
        "update activity set actor_kind = 'python'",
        "delete from activity",
        "truncate activity",
        "update jobs set actor_kind = 'python', via = 'python'",
        "update jobs set actor_kind = null, actor_id = null, via = null",
        "update jobs set via = 'http'",
        INSERT_EVENT.format(columns="job_id", values="'key', 'http', 1"),
        INSERT_EVENT.format(columns="actor_id, job_id", values="'cli', 'cli', 7, 1"),
        INSERT_EVENT.format(columns="job_id, key_id", values="'cli', 'cli', 1, 1"),
        INSERT_EVENT.format(columns="job_id", values="'cli', 'cli', null"),
    ],
)
async def test_stored_activity_cannot_be_changed(pool, settings, change):
    """The database refuses changes of stored activity, incomplete actors and incomplete events."""
    request = JobRequest(action="opt_out", selection=Selection(all=True), requested_by="x")
    await submit(pool, settings, request, actor=CLI)
    before = await stored_activity(pool)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await pool.execute(change)
    assert await stored_activity(pool) == before
