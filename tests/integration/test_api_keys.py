"""API keys: the token is shown once, only a digest is stored, and scopes and revocation apply."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from producers.keys import Scope, create_key, find_caller, parse_expiry, revoke_key
from schemas.errors import InvalidRequest, NotFound
from tests.kit.commands import run_sluice
from tests.kit.factories import make_account
from tests.kit.property_examples import example_count
from tests.kit.waiting import wait_until_async
from tests.unit.test_rate_limit import Clock
from web import cached_list
from web.api_key_cache import KEY_CACHE_SECONDS, ApiKeyCache
from web.peers import FailedAuthLimiter
from web.rate_limit import RateLimiter
from web.routes import job_events


@pytest.fixture
def command_environment(monkeypatch, settings, tmp_path):
    """Point the commands at the test's own database and queue through the environment."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.chdir(tmp_path)


async def create_service_key(pool, *scopes: Scope, account: str = "default"):
    """Create a key with these scopes, or with all of them."""
    return await create_key(pool, account=account, name="a service", scopes=list(scopes or Scope))


async def test_only_a_digest_is_kept(pool):
    """The key's secret is stored nowhere in the database."""
    key = await create_service_key(pool)
    secret = key.secret[-43:]
    row = await pool.fetchrow("select * from api_keys where id = $1", key.id)
    assert row["digest"] == hashlib.sha256(secret.encode()).digest()
    assert secret not in str(dict(row))


async def test_a_key_belongs_to_its_account(pool):
    """A token gives its account and its scopes. A changed secret or id gives no access."""
    await make_account(pool, "shop")
    key, other = (
        await create_service_key(pool, Scope.JOBS_READ, account="shop"),
        await create_service_key(pool),
    )
    async with pool.acquire() as connection:
        caller = await find_caller(connection, key.secret)
        assert (caller.key_id, caller.account, caller.scopes) == (key.id, "shop", {"jobs:read"})
        secret = key.secret[-43:]
        for wrong in (
            key.secret[:-1],
            key.secret + "x",
            key.secret.upper(),
            f"sluice_{other.id}_{secret}",
            f"sluice_{2**63}_{secret}",
            f"sluice_0_{secret}",
            f" {key.secret}",
            f"{key.secret}\n",
        ):
            assert await find_caller(connection, wrong) is None


async def test_names_and_scopes_are_checked(pool):
    """A key needs a valid name, a scope and an existing account; otherwise nothing is stored."""
    for name in ("", "  ", "x" * 201, "a\x00b", "\ud800"):
        with pytest.raises(InvalidRequest):
            await create_key(pool, account="default", name=name, scopes=[Scope.JOBS_READ])
    with pytest.raises(InvalidRequest, match="scope"):
        await create_key(pool, account="default", name="x", scopes=[])
    with pytest.raises(NotFound):
        await create_key(pool, account="none", name="x", scopes=[Scope.JOBS_READ])
    assert await pool.fetchval("select count(*) from api_keys") == 0


async def test_a_revoked_key_is_rejected_after_a_second(pool):
    """A web process caches a valid key for at most a second. Invalid keys are looked up each time,
    so a new key is valid immediately.
    """
    clock = Clock()
    cache = ApiKeyCache(pool, clock)
    key = await create_service_key(pool)
    assert await cache.authenticate(key.secret[:-1]) is None
    caller = await cache.authenticate(key.secret)
    assert caller is not None
    await revoke_key(pool, key.id)
    clock.now += KEY_CACHE_SECONDS - 0.001
    assert await cache.authenticate(key.secret) == caller
    clock.now += 0.001
    assert await cache.authenticate(key.secret) is None
    clock.now -= KEY_CACHE_SECONDS
    assert await cache.authenticate(key.secret) is None


async def test_a_key_ends_when_it_expires(pool):
    """A web process does not accept a cached key after it expires."""
    clock = Clock()
    cache = ApiKeyCache(pool, clock)
    expires_at = datetime.now(UTC) + timedelta(seconds=0.9)
    key = await create_key(
        pool, account="default", name="x", scopes=[*Scope], expires_at=expires_at
    )
    caller = await cache.authenticate(key.secret)
    assert caller is not None
    assert 0 < caller.seconds_left < KEY_CACHE_SECONDS
    assert await cache.is_listed(key.secret)
    await pool.execute("update api_keys set expires_at = clock_timestamp()")
    clock.now += caller.seconds_left - 0.001
    assert await cache.authenticate(key.secret) == caller
    clock.now += 0.002
    assert await cache.authenticate(key.secret) is None
    assert not await cache.is_active(caller)
    clock.now += 11
    assert not await cache.is_listed(key.secret)


async def test_the_last_use_of_a_key_is_stored(pool):
    """The last use is stored once a minute, in the background. Neither a lock nor an error affects
    the request.
    """
    clock = Clock()
    cache = ApiKeyCache(pool, clock)
    key = await create_service_key(pool)

    async def last_used_at():
        return await pool.fetchval("select last_used_at from api_keys")

    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from api_keys for update")
        assert await cache.authenticate(key.secret) is not None
        await cache._usage_write
        assert await last_used_at() is None
    clock.now += 59
    assert await cache.authenticate(key.secret) is not None
    await cache._usage_write
    assert await last_used_at() is None
    clock.now += 2
    assert await cache.authenticate(key.secret) is not None
    await cache._usage_write
    assert await last_used_at() is not None
    await pool.execute("alter table api_keys rename column last_used_at to gone")
    clock.now += 61
    assert await cache.authenticate(key.secret) is not None
    await cache._usage_write


NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def test_an_expiry_is_a_date_or_a_number_of_days():
    """A day starts in UTC. An expiry that is past, too far ahead or malformed is rejected."""
    assert parse_expiry("2027-01-01", NOW) == datetime(2027, 1, 1, tzinfo=UTC)
    assert parse_expiry("90d", NOW) == NOW + timedelta(days=90)
    for wrong in (
        *(
            "",
            "0d",
            "-1d",
            "90",
            "d",
            "1.5d",
            "99999d",
            "9" * 30 + "d",
            "\N{ARABIC-INDIC DIGIT ONE}d",
        ),
        *("2026-11-28", "2026-02-30", "20270101", "2027-01-01T00:00:00Z", "9999-01-01", "tomorrow"),
    ):
        with pytest.raises(InvalidRequest, match="Nothing was created"):
            parse_expiry(wrong, NOW)


async def test_wrong_keys_are_limited_and_right_ones_are_not(app, http, key_of, pool, monkeypatch):
    """A network address that sends wrong keys gets 429 without a look-up. A request with a valid
    key is still served, even if the key is new to this process.
    """
    monkeypatch.setattr(cached_list, "MIN_REFRESH_SECONDS", 0.01)
    state = app.state.sluice
    state.failed_auth_limiter = FailedAuthLimiter(4, Clock())
    cached, uncached = await key_of(), await key_of("shop")
    assert (await http.get("/v1/jobs", headers=cached)).status_code == 200
    wrong = [{"Authorization": f"Bearer sluice_{n}_{'x' * 43}"} for n in range(12)]
    with capture_logs() as logs:
        answers = [await http.get("/v1/jobs", headers=headers) for headers in wrong]
    assert [answer.status_code for answer in answers] == [401] * 4 + [429] * 8
    assert answers[-1].headers["retry-after"] == "15"
    assert [line["count"] for line in logs if line["event"] == "peer.limited"] == [1]
    for headers in (cached, uncached, await key_of(), await key_of("shop")):
        assert (await http.get("/v1/jobs", headers=headers)).status_code == 200
    await revoke_key(pool, 2)
    state.api_key_cache = ApiKeyCache(pool)
    assert (await http.get("/v1/jobs", headers=uncached)).status_code == 429
    # A request without a key needs no look-up.
    assert (await http.get("/v1/jobs")).status_code == 401


async def test_a_stream_of_events_ends_with_its_key(http, key_of, pool, monkeypatch):
    """The stream ends when its key is revoked, even if the job has not ended."""
    monkeypatch.setattr(job_events, "KEY_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(job_events, "CHECK_SECONDS", 0.02)
    headers = await key_of()
    body = {"action": "opt_out", "selection": {"all": True}}
    job = (await http.post("/v1/jobs", json=body, headers=headers)).json()["id"]
    following = asyncio.create_task(http.get(f"/v1/jobs/{job}/events", headers=headers))
    done, _ = await asyncio.wait([following], timeout=0.3)
    assert not done
    await revoke_key(pool, 1)
    answer = await asyncio.wait_for(following, 20)
    assert "event: progress" in answer.text
    assert "event: ended" not in answer.text


async def test_a_revocation_reaches_a_web_process(http, key_of, pool):
    """A revoked key is soon rejected. Its first revocation time is kept, and an unknown id is an
    error.
    """
    headers = await key_of()
    assert (await http.get("/v1/jobs", headers=headers)).status_code == 200
    key_id = await pool.fetchval("select max(id) from api_keys")
    await revoke_key(pool, key_id)

    async def is_rejected() -> bool:
        return (await http.get("/v1/jobs", headers=headers)).status_code == 401

    await wait_until_async(is_rejected, deadline_seconds=20, what="the revoked key is rejected")
    first = await pool.fetchval("select revoked_at from api_keys")
    await revoke_key(pool, key_id)
    assert await pool.fetchval("select revoked_at from api_keys") == first
    for unknown in (key_id + 1, 0, -1, 2**63):
        with pytest.raises(NotFound):
            await revoke_key(pool, unknown)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer sluice_1_", "Bearer sluice_1_" + "x" * 43],
)
async def test_a_request_without_a_valid_key_is_rejected(http, header):
    """A request without a valid key gets 401 with a `WWW-Authenticate` header. All such requests
    get the same body.
    """
    headers = {} if header is None else {"Authorization": header}
    answer = await http.post("/v1/jobs", json={"action": "opt_out"}, headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json() == (await http.get("/v1/jobs")).json()


header_bytes = st.binary(max_size=80).filter(lambda text: not {10, 13, 0} & set(text))


@given(token=st.one_of(header_bytes, st.from_regex(rb"sluice_[0-9]{1,25}_.{40,45}")))
@hypothesis_settings(
    max_examples=example_count(60), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_malformed_tokens_are_rejected(http, token):
    """Such a token causes no server error and never counts as a valid key."""
    answer = await http.get("/v1/jobs", headers=[(b"authorization", b"Bearer " + token)])
    assert answer.status_code == 401


async def test_a_key_is_limited_to_its_scopes(http, key_of):
    """A request outside the key's scopes gets 403, which names the missing scope."""
    reader, writer = await key_of("default", "jobs:read"), await key_of("default", "jobs:write")
    body = {"action": "opt_out", "selection": {"all": True}}
    assert (await http.get("/v1/jobs", headers=reader)).status_code == 200
    assert (await http.post("/v1/jobs", json=body, headers=writer)).status_code == 202
    for answer, scope in (
        (await http.post("/v1/jobs", json=body, headers=reader), "jobs:write"),
        (await http.get("/v1/jobs", headers=writer), "jobs:read"),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["type"], problem["scope"]) == (
            403,
            "urn:sluice:problem:scope-missing",
            scope,
        )


async def test_jobs_of_another_account_are_not_found(http, key_of):
    """Another account's job gets exactly the same answer as a job that does not exist."""
    shop, other = await key_of("shop"), await key_of("other")
    body = {"action": "opt_out", "selection": {"all": True}}
    job = (await http.post("/v1/jobs", json=body, headers=shop)).json()["id"]
    for method, action in (("GET", ""), ("POST", "/pause"), ("POST", "/cancel")):
        answer = await http.request(method, f"/v1/jobs/{job}{action}", headers=other)
        missing = await http.request(method, f"/v1/jobs/{job + 1}{action}", headers=other)
        assert answer.status_code == missing.status_code == 404
        assert answer.text == missing.text.replace(str(job + 1), str(job))
        assert "shop" not in answer.text
    assert (await http.get("/v1/jobs", headers=other)).json()["jobs"] == []
    assert (await http.get(f"/v1/jobs/{job}", headers=shop)).json()["state"] == "planning"


async def test_a_rate_limited_key_gets_a_retry_after(app, http, key_of):
    """The key gets 429 with whole seconds in `Retry-After`; another key is not affected."""
    app.state.sluice.rate_limiter = RateLimiter(0.01)
    first, second = await key_of(), await key_of()
    assert (await http.get("/v1/jobs", headers=first)).status_code == 200
    answer = await http.get("/v1/jobs", headers=first)
    assert (answer.status_code, answer.json()["type"]) == (
        429,
        "urn:sluice:problem:too-many-requests",
    )
    assert 90 < int(answer.headers["Retry-After"]) <= 100
    assert (await http.get("/v1/jobs", headers=second)).status_code == 200


@pytest.mark.usefixtures("command_environment")
def test_keys_are_created_listed_and_revoked_by_command():
    """The token is shown once, and never by the list. Without `--scope` a key has all scopes."""
    shown = run_sluice("keys", "create", "the shop", "--scope", "jobs:read")
    secret = shown.stdout.strip()
    assert secret.startswith("sluice_1_")
    everything = json.loads(run_sluice("keys", "create", "all", "--json").stdout)
    assert sorted(everything["scopes"]) == sorted(Scope)
    listed = run_sluice("keys", "list", "--json").stdout
    assert [(key["id"], key["name"]) for key in json.loads(listed)] == [(2, "all"), (1, "the shop")]
    for each in (secret, secret[-43:], everything["secret"]):
        assert each not in listed + run_sluice("keys", "list").stdout
    ends = run_sluice("keys", "create", "for a month", "--expires", "30d")
    assert "It expires on 2" in ends.stderr
    assert run_sluice("keys", "revoke", "1").exit_code == 0
    third, second, first = json.loads(run_sluice("keys", "list", "--json").stdout)
    assert (bool(third["expires_at"]), second["expires_at"]) == (True, None)
    assert (bool(first["revoked_at"]), first["last_used_at"]) == (True, None)
    for wrong in (
        ("keys", "revoke", "4"),
        ("keys", "create", "x", "--expires", "yesterday"),
        ("keys", "create", "x", "--account", "none"),
        ("keys", "create", "x", "--scope", "everything"),
        ("keys", "list", "--account", "none"),
    ):
        refused = run_sluice(*wrong)
        assert (refused.exit_code, refused.stdout) == (2, "")
