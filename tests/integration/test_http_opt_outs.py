"""`POST /v1/opt-outs`: an opt-out is applied before the answer, and one event is one job."""

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
    """Create a key that may only opt out; return its headers."""
    return await key_of("default", "opt_outs:write")


def opt_out_body(**changes):
    """Return the body of an opt-out with changes; a field that is None is left out."""
    body = {"address": ANN, "kind": "manual", "source": "shop", "event_id": "e1"} | changes
    return {name: value for name, value in body.items() if value is not None}


async def test_an_opt_out_is_applied_and_propagated_before_the_answer(http, key, pool, accounts):
    """The opt-out is propagated to the contact's shared address, but from there to no other
    contact. Other accounts are not affected.
    """
    occurred_at = datetime(2024, 5, 6, 7, tzinfo=UTC)
    answer = await http.post(
        PATH, json=opt_out_body(occurred_at=occurred_at.isoformat(), note="by phone"), headers=key
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


async def test_an_unknown_address_is_stored_as_opted_out(http, key, pool, accounts):
    """An unknown address is stored as opted out, so no import or opt-in makes it marketable."""
    answer = await http.post(
        PATH, json=opt_out_body(address=" New@X.example ", kind="spam"), headers=key
    )
    assert (answer.json()["status"], answer.json()["propagated"]) == ("spam", 0)
    assert (await statuses_of(pool, accounts["default"]))["new@x.example"] == ("spam", False)


async def test_a_repeated_event_changes_nothing(http, key, pool, accounts):
    """The repeated event gets the same answer, except for `created`."""
    times = ("2024-05-06T09:00:00+02:00", "2024-05-06T07:00:00Z")
    first, again = [
        await http.post(PATH, json=opt_out_body(occurred_at=occurred_at), headers=key)
        for occurred_at in times
    ]
    assert again.status_code == 200
    assert again.json() == first.json() | {"created": False}
    assert await pool.fetchval("select count(*) from jobs") == 1


@pytest.mark.parametrize(
    "other",
    [{"address": BOB}, {"kind": "spam"}, {"note": "x"}, {"occurred_at": "2024-05-06T07:00Z"}],
)
async def test_a_repeated_event_with_another_body_is_a_conflict(http, key, pool, accounts, other):
    """A conflicting event is not stored and changes no address."""
    await http.post(PATH, json=opt_out_body(), headers=key)
    before = await read_everything(pool)
    problem_detail(
        await http.post(PATH, json=opt_out_body(**other), headers=key),
        409,
        "idempotency-key-reused",
    )
    assert await read_everything(pool) == before


async def test_events_of_two_sources_and_accounts_are_separate(http, key, key_of, pool, accounts):
    """Each source has its own event ids, and so does each account."""
    other = await key_of("other")
    bodies = [(opt_out_body(), key), (opt_out_body(source="till"), key), (opt_out_body(), other)]
    answers = [
        (await http.post(PATH, json=body, headers=headers)).json() for body, headers in bodies
    ]
    assert [answer["created"] for answer in answers] == [True] * 3
    assert len({answer["job_id"] for answer in answers}) == 3


async def test_without_an_event_id_each_request_is_a_job(http, key, pool, accounts):
    """The second opt-out is a separate job that changes nothing."""
    for status in ("manual", "manual"):
        answer = await http.post(PATH, json=opt_out_body(event_id=None), headers=key)
        assert (answer.json()["created"], answer.json()["status"]) == (True, status)
    assert await pool.fetchval("select count(*) from jobs") == 2


async def test_long_event_ids_are_distinct(http, key, pool, accounts):
    """The idempotency key of a long event id is shortened; ids that differ at the end stay
    distinct.
    """
    ids = ["i" * 199 + last for last in "aab"]
    answers = [
        (await http.post(PATH, json=opt_out_body(event_id=i), headers=key)).json() for i in ids
    ]
    assert [answer["created"] for answer in answers] == [True, False, True]


async def test_a_status_of_a_higher_rank_stays(http, key, pool, accounts):
    """The answer has the present status of the address, not the requested one."""
    await http.post(PATH, json=opt_out_body(kind="spam"), headers=key)
    answer = await http.post(PATH, json=opt_out_body(event_id="e2"), headers=key)
    assert (answer.status_code, answer.json()["status"]) == (200, "spam")


async def test_no_bulk_opt_in_undoes_an_opt_out(http, key, pool, settings, accounts):
    """After the opt-out neither the address nor its sibling is made marketable by a bulk opt-in."""
    await http.post(PATH, json=opt_out_body(), headers=key)
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
    statuses = await statuses_of(pool, accounts["default"])
    assert (statuses[ANN], statuses[FAMILY]) == (("manual", False), ("manual", True))


FUTURE = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.mark.parametrize(
    ("changes", "expected"),
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
async def test_an_invalid_opt_out_is_rejected(http, key, pool, accounts, changes, expected):
    """The error names the field or the value, and nothing is stored or changed."""
    before = await read_everything(pool)
    answer = await http.post(PATH, json=opt_out_body(**changes), headers=key)
    assert expected in problem_detail(answer, 422, "invalid")
    assert await read_everything(pool) == before


async def test_a_time_slightly_in_the_future_is_accepted(http, key, accounts):
    """A time slightly in the future is accepted, since senders' clocks differ by minutes."""
    occurred_at = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    answer = await http.post(PATH, json=opt_out_body(occurred_at=occurred_at), headers=key)
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
async def test_a_body_without_an_opt_out_is_rejected(http, key, pool, body, kind, status, slug):
    """Any other body is rejected, and nothing is stored."""
    answer = await http.post(PATH, content=body, headers=key | {"Content-Type": kind})
    problem_detail(answer, status, slug)
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_a_key_with_the_scope_is_needed(http, key_of, pool, accounts):
    """A request without a key, or with a key without the scope, is rejected."""
    problem_detail(await http.post(PATH, json=opt_out_body()), 401, "unauthenticated")
    headers = await key_of("default", "jobs:write", "jobs:read", "addresses:read")
    problem_detail(
        await http.post(PATH, json=opt_out_body(), headers=headers), 403, "scope-missing"
    )
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_no_log_line_has_the_address(http, key, accounts):
    """Log lines have no address and no note, neither of applied nor of rejected opt-outs."""
    with capture_logs() as logs:
        await http.post(PATH, json=opt_out_body(note="secret"), headers=key)
        await http.post(PATH, json=opt_out_body(address="ann@nowhere@x.example"), headers=key)
    logged = json.dumps(logs, default=str)
    assert "opt_out.received" in logged
    assert "x.example" not in logged
    assert "secret" not in logged


async def test_an_opt_out_that_cannot_be_applied_is_stored(http, key, pool, accounts, monkeypatch):
    """If the opt-out cannot be applied immediately, the answer is 202 and the job is left to
    workers.
    """
    await pool.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise 'no results today'; end $$;"
        " create trigger refuse before insert on results for each row execute function refuse()"
    )
    answer = await http.post(PATH, json=opt_out_body(), headers=key)
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
