"""`POST /v1/opt-outs`: applied with its spread when it is answered, and one event is one job."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from producers.invalid_request import parse_request
from producers.submit import submit
from tests.kit.factories import statuses_of
from tests.kit.in_process import InProcessRunner
from tests.kit.recipients import (
    ANN,
    BOB,
    FAMILY,
    OPEN,
    make_couples,
    problem_detail,
    read_everything,
)
from tests.kit.submitting import EVIDENCE

PATH = "/v1/opt-outs"


@pytest.fixture
async def accounts(pool):
    """Create two accounts with the same couple."""
    return await make_couples(pool)


@pytest.fixture
async def key(key_of):
    """Make a key that may only opt out, as headers."""
    return await key_of("default", "opt_outs:write")


def given(**changes):
    """Return the body of an opt-out with changes; a field that is None is left out."""
    body = {"address": ANN, "kind": "manual", "source": "shop", "event_id": "e1"} | changes
    return {name: value for name, value in body.items() if value is not None}


async def test_it_is_applied_with_its_spread_before_it_is_answered(http, key, pool, accounts):
    """To the shared address of her contact, and not through it to his; in her account alone."""
    moment = datetime(2024, 5, 6, 7, tzinfo=UTC)
    answer = await http.post(
        PATH, json=given(occurred_at=moment.isoformat(), note="by phone"), headers=key
    )
    assert answer.status_code == 200
    job = answer.json()["job_id"]
    assert answer.json() == {
        "job_id": job,
        "applied": True,
        "created": True,
        "status": "manual",
        "propagated": 1,
    }
    assert await statuses_of(pool, accounts["default"]) == {
        ANN: ("manual", False),
        FAMILY: ("manual", True),
        BOB: OPEN,
    }
    assert set((await statuses_of(pool, accounts["other"])).values()) == {OPEN}
    row = await pool.fetchrow(
        "select state, params, requested_by, correlation_id from jobs where id = $1", job
    )
    assert row["state"] == "completed"
    assert row["params"] == {
        "kind": "manual",
        "source": "shop",
        "note": "by phone",
        "occurred_at": "2024-05-06T07:00:00Z",
    }
    assert row["requested_by"] == "a service of default"
    assert row["correlation_id"] == answer.headers["x-correlation-id"]


async def test_an_address_that_nobody_knows_is_kept_as_opted_out(http, key, pool, accounts):
    """So that no import, and no opt-in after it, makes it marketable."""
    answer = await http.post(PATH, json=given(address=" New@X.example ", kind="spam"), headers=key)
    assert (answer.json()["status"], answer.json()["propagated"]) == ("spam", 0)
    assert (await statuses_of(pool, accounts["default"]))["new@x.example"] == ("spam", False)


async def test_the_same_event_told_again_changes_nothing(http, key, pool, accounts):
    """It is answered as the first time, but for `created`."""
    moments = ("2024-05-06T09:00:00+02:00", "2024-05-06T07:00:00Z")
    first, again = [
        await http.post(PATH, json=given(occurred_at=moment), headers=key) for moment in moments
    ]
    assert again.status_code == 200
    assert again.json() == first.json() | {"created": False}
    assert await pool.fetchval("select count(*) from jobs") == 1


@pytest.mark.parametrize(
    "other",
    [{"address": BOB}, {"kind": "spam"}, {"note": "x"}, {"occurred_at": "2024-05-06T07:00Z"}],
)
async def test_the_same_event_with_another_body_is_refused(http, key, pool, accounts, other):
    """Nothing of it is stored, and no address is changed by it."""
    await http.post(PATH, json=given(), headers=key)
    before = await read_everything(pool)
    problem_detail(
        await http.post(PATH, json=given(**other), headers=key), 409, "idempotency-key-reused"
    )
    assert await read_everything(pool) == before


async def test_events_of_two_sources_and_accounts_do_not_meet(http, key, key_of, pool, accounts):
    """Each source numbers its own, and so does each account."""
    others = await key_of("other")
    bodies = [(given(), key), (given(source="till"), key), (given(), others)]
    answers = [(await http.post(PATH, json=body, headers=who)).json() for body, who in bodies]
    assert [answer["created"] for answer in answers] == [True] * 3
    assert len({answer["job_id"] for answer in answers}) == 3


async def test_without_an_event_id_each_is_a_job(http, key, pool, accounts):
    """The second finds nothing to change."""
    for status in ("manual", "manual"):
        answer = await http.post(PATH, json=given(event_id=None), headers=key)
        assert (answer.json()["created"], answer.json()["status"]) == (True, status)
    assert await pool.fetchval("select count(*) from jobs") == 2


async def test_a_long_event_id_is_an_event_id(http, key, pool, accounts):
    """Its key is shortened, and two of them that begin alike are two."""
    ids = ["i" * 199 + last for last in "aab"]
    made = [(await http.post(PATH, json=given(event_id=i), headers=key)).json() for i in ids]
    assert [answer["created"] for answer in made] == [True, False, True]


async def test_a_stronger_status_stays(http, key, pool, accounts):
    """What the address is now is told, and not what was asked for."""
    await http.post(PATH, json=given(kind="spam"), headers=key)
    answer = await http.post(PATH, json=given(event_id="e2"), headers=key)
    assert (answer.status_code, answer.json()["status"]) == (200, "spam")


async def test_no_bulk_opt_in_undoes_it(http, key, pool, settings, accounts):
    """Neither her address nor the one that her opt-out spread to is marketable after it."""
    await http.post(PATH, json=given(), headers=key)
    request = parse_request(
        {
            "action": "opt_in",
            "selection": {"all": True},
            "fields": ["email1", "email2"],
            "evidence": EVIDENCE,
            "requested_by": "test",
        }
    )
    submitted = await submit(pool, settings, request)
    await InProcessRunner(pool, settings, chunk_size=2, parallel=1).work(submitted.job_id)
    now = await statuses_of(pool, accounts["default"])
    assert (now[ANN], now[FAMILY]) == (("manual", False), ("manual", True))


FUTURE = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"address": "nobody"}, "address"),
        ({"address": "Ann <ann@x.example>"}, "address"),
        ({"address": ""}, "address"),
        ({"address": "a\x00@x.example"}, "NUL"),
        ({"address": None}, "address"),
        ({"address": ["ann@x.example"]}, "address"),
        ({"kind": "admin"}, "kind"),
        ({"kind": None}, "kind"),
        ({"source": "two words"}, "source"),
        ({"source": None}, "source"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": "\x00"}, "NUL"),
        ({"event_id": "x" * 201}, "event_id"),
        ({"occurred_at": FUTURE}, "future"),
        ({"occurred_at": "2024-05-06T07:00:00"}, "offset from UTC"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"note": "n" * 1001}, "note"),
        ({"adress": ANN}, "`adress`: Unknown field"),
    ],
)
async def test_what_cannot_be_carried_out_is_refused_by_name(
    http, key, pool, accounts, changes, names
):
    """And nothing is stored, nor changed."""
    before = await read_everything(pool)
    answer = await http.post(PATH, json=given(**changes), headers=key)
    assert names in problem_detail(answer, 422, "invalid")
    assert await read_everything(pool) == before


async def test_a_clock_a_little_ahead_is_no_mistake(http, key, accounts):
    """Clocks of senders differ from ours by minutes."""
    soon = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    answer = await http.post(PATH, json=given(occurred_at=soon), headers=key)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status", "slug"),
    [
        (b"{", "application/json", 400, "malformed"),
        (b"\xff", "application/json", 400, "malformed"),
        (b"[]", "application/json", 422, "invalid"),
        (b"address=ann", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
    ],
)
async def test_a_body_that_is_no_opt_out_is_refused(http, key, pool, body, kind, status, slug):
    """Whatever it is instead."""
    answer = await http.post(PATH, content=body, headers=key | {"Content-Type": kind})
    problem_detail(answer, status, slug)
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_it_takes_a_key_with_the_scope(http, key_of, pool, accounts):
    """No other key will do, and none at all neither."""
    problem_detail(await http.post(PATH, json=given()), 401, "unauthenticated")
    others = await key_of("default", "jobs:write", "jobs:read", "addresses:read")
    problem_detail(await http.post(PATH, json=given(), headers=others), 403, "scope-missing")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_no_line_tells_the_address(http, key, accounts):
    """Neither of one that was opted out, nor of one that was refused."""
    with capture_logs() as logs:
        await http.post(PATH, json=given(note="secret"), headers=key)
        await http.post(PATH, json=given(address="ann@nowhere@x.example"), headers=key)
    told = json.dumps(logs, default=str)
    assert "opt_out.received" in told
    assert "x.example" not in told
    assert "secret" not in told


async def test_what_cannot_be_applied_at_once_is_stored_and_said_so(
    http, key, pool, accounts, monkeypatch
):
    """The job is left to the workers, who begin with it; the answer is 202."""
    await pool.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise 'no results today'; end $$;"
        " create trigger refuse before insert on results for each row execute function refuse()"
    )
    answer = await http.post(PATH, json=given(), headers=key)
    assert answer.status_code == 202
    job = answer.json()["job_id"]
    assert answer.json() == {
        "job_id": job,
        "applied": False,
        "created": True,
        "status": "confirmed",
        "propagated": None,
    }
    assert await pool.fetchval("select state from jobs where id = $1", job) == "planning"
