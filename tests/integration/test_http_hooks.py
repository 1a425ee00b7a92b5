"""Hooks: senders without a key opt out addresses of one account, if token or signature hold."""

import json
import re
import time
from urllib.parse import urlencode

import pytest
from hypothesis import strategies as st
from structlog.testing import capture_logs

from producers.hook_events import MOST_EVENTS
from producers.hooks import create_hook, revoke_hook
from runtime.signing import signature
from schemas.errors import NotFound, WrongInput
from tests.examples import for_all
from tests.recipients import ANN, BOB, FAMILY, OPEN, all_there_is, couples, problem
from tests.worlds import statuses_of

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def accounts(pool):
    return await couples(pool)


@pytest.fixture
async def hook(pool, settings, accounts):
    return await create_hook(pool, settings, account="default", source="keap")


@pytest.fixture
async def others(pool, settings, accounts):
    return await create_hook(pool, settings, account="other", source="keap")


def event(**changes):
    body = {"event_id": "e1", "address": ANN, "kind": "feedback"} | changes
    return {name: value for name, value in body.items() if value is not None}


def signed(secret, body, *, at=None):
    timestamp = str(int(time.time() if at is None else at))
    return {"Sluice-Timestamp": timestamp, "Sluice-Signature": signature(secret, timestamp, body)}


async def post_events(http, hook, events, **how):
    body = json.dumps(events).encode()
    return await http.post(hook.events_path, content=body, headers=signed(hook.secret, body, **how))


# Forms


async def test_what_keap_posts_opts_out_both_addresses(http, pool, hook, accounts):
    """With whatever else an automation sends along; his address is not reached through theirs."""
    answer = await http.post(
        hook.form_path,
        data={
            "contactId": "4711",
            "FirstName": "Ann\x00",
            "Email": f" {ANN} ",
            "EmailAddress2": "Ann@Work.example",
            "EmailAddress3": "",
        },
    )
    assert (answer.status_code, answer.json()) == (
        200,
        {"applied": True, "created": True, "refused": []},
    )
    assert await statuses_of(pool, accounts["default"]) == {
        ANN: ("manual", False),
        "ann@work.example": ("manual", False),
        FAMILY: ("manual", True),
        BOB: OPEN,
    }
    assert set((await statuses_of(pool, accounts["other"])).values()) == {OPEN}
    row = await pool.fetchrow("select params, requested_by from jobs")
    assert row["params"] == {"kind": "manual", "source": "keap", "note": "contact 4711 of keap"}
    assert row["requested_by"] == f"hook {hook.id} (keap)"
    assert "FirstName" not in str(dict(await pool.fetchrow("select * from jobs")))


@pytest.mark.parametrize("name", ["email", "Email", "EMAIL1", "email3", "EmailAddress", "address"])
async def test_the_operator_chooses_the_fields_name(http, pool, hook, accounts, name):
    """Among the names that senders give an address."""
    assert (await http.post(hook.form_path, data={name: ANN})).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


async def test_the_form_may_say_how(http, pool, hook, accounts):
    """By `kind`, which is manual unless it is given."""
    await http.post(hook.form_path, data={"email": ANN, "kind": "spam"})
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("spam", False)


async def test_a_form_that_comes_again_is_one_job_a_day(http, pool, hook, accounts):
    """Keap sends no id of what happened, and posts again when no answer came."""
    data = {"email": ANN, "email2": FAMILY, "contactId": "7"}
    answers = [(await http.post(hook.form_path, data=data)).json() for _ in range(2)]
    assert [answer["created"] for answer in answers] == [True, False]
    assert [answer["applied"] for answer in answers] == [True, True]
    for other in (
        {"email": BOB},
        {"email": ANN},
        data | {"contactId": "8"},
        data | {"kind": "spam"},
    ):
        assert (await http.post(hook.form_path, data=other)).json()["created"]
    (key,) = await pool.fetchrow("select idempotency_key from jobs order by id limit 1")
    assert "example" not in key


async def test_the_senders_own_id_counts_where_there_is_one(http, pool, hook, accounts):
    """The same event is one job, and with another address it is refused."""
    first = {"email": ANN, "event_id": "17"}
    for created in (True, False):
        assert (await http.post(hook.form_path, data=first)).json()["created"] is created
    before = await all_there_is(pool)
    answer = await http.post(hook.form_path, data={"email": BOB, "event_id": "17"})
    detail = problem(answer, 409, "idempotency-key-reused")
    assert not re.search(r"job|example", detail)
    assert await all_there_is(pool) == before


async def test_a_field_without_an_address_does_not_keep_the_others(http, pool, hook, accounts):
    """An opt-out is not lost for what somebody has typed into a second field."""
    answer = await http.post(hook.form_path, data={"email": "n/a", "email2": ANN, "address": "?"})
    assert answer.json() == {"applied": True, "created": True, "refused": ["email", "address"]}
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 422, "invalid"),
        (b"name=Ann", 422, "invalid"),
        (b"email=", 422, "invalid"),
        (b"email=nobody", 422, "invalid"),
        (b"email=a%00%40x.example", 422, "invalid"),
        (b"email=ann%40x.example&event_id=%00", 422, "invalid"),
        (b"email=%ffann%40x.example", 422, "invalid"),
        (b"email=%ff%40x.example", 422, "invalid"),
        (b"email=ann%40x.example&kind=admin", 422, "invalid"),
        (b"email=ann%40x.example&event_id=" + b"x" * 201, 422, "invalid"),
        (b"&".join([b"a=b"] * 300), 400, "malformed"),
    ],
)
async def test_a_form_without_an_opt_out_changes_nothing(
    http, pool, hook, accounts, body, status, slug
):
    """It is told what is missing, and so is the log."""
    before = await all_there_is(pool)
    with capture_logs() as logs:
        answer = await http.post(hook.form_path, content=body, headers=FORM)
    problem(answer, status, slug)
    assert await all_there_is(pool) == before
    assert refusals(logs) == [(hook.id, "malformed")]


async def test_a_form_is_a_form(http, pool, hook, accounts):
    """JSON is for the path beside it."""
    answer = await http.post(hook.form_path, json={"email": ANN})
    problem(answer, 415, "unsupported-media-type")
    files = {"email": ("a.txt", b"x")}
    problem(await http.post(hook.form_path, files=files), 400, "malformed")


async def test_a_token_that_does_not_hold_is_not_there(http, pool, settings, hook, others):
    """Guessed at, changed, of no hook there is, or one hook's digest under another's number."""
    before = await all_there_is(pool)
    head, _, mac = hook.form_path.rpartition(".")
    other_head = others.form_path.rpartition(".")[0]
    with capture_logs() as logs:
        for path in (
            f"{head}.{mac[::-1]}",
            f"{other_head}.{mac}",
            f"/v1/hooks/form/99.{mac}",
            f"/v1/hooks/form/{'9' * 19}.{mac}",
            f"/v1/hooks/form/{hook.id}",
            hook.form_path[:-1],
            hook.form_path + "A",
        ):
            problem(await http.post(path, data={"email": ANN}), 404, "not-found")
    assert refusals(logs) == [(hook.id, "token_wrong"), (others.id, "token_wrong")]
    assert await all_there_is(pool) == before


# Signed events


async def test_a_signed_event_is_applied(http, pool, hook, accounts):
    """With its spread, in the hook's own account."""
    answer = await post_events(
        http, hook, event(occurred_at="2024-05-06T07:00:00Z", note="a complaint")
    )
    assert (answer.status_code, answer.json()) == (
        200,
        {"events": [{"event_id": "e1", "applied": True, "created": True, "conflict": False}]},
    )
    assert await statuses_of(pool, accounts["default"]) == {
        ANN: ("feedback", False),
        FAMILY: ("manual", True),
        BOB: OPEN,
    }
    assert set((await statuses_of(pool, accounts["other"])).values()) == {OPEN}


async def test_a_list_of_events_is_applied_in_order(http, pool, hook, accounts):
    """Each is a job of its own; at most a hundred come at a time."""
    many = [event(event_id=str(n), address=f"{n}@x.example") for n in range(MOST_EVENTS)]
    answer = await post_events(http, hook, many)
    assert [told["event_id"] for told in answer.json()["events"]] == [str(n) for n in range(100)]
    assert await pool.fetchval("select count(*) from jobs where state = 'completed'") == 100
    for wrong in ([*many, event()], []):
        problem(await post_events(http, hook, wrong), 422, "invalid")


async def test_a_message_that_comes_again_changes_nothing(http, pool, hook, accounts):
    """It is answered as the first time, but for `created`: byte by byte, or signed anew."""
    body = json.dumps(event()).encode()
    headers = signed(hook.secret, body)
    first = await http.post(hook.events_path, content=body, headers=headers)
    before = await all_there_is(pool)
    for again in (headers, signed(hook.secret, body, at=time.time() - 60)):
        answer = await http.post(hook.events_path, content=body, headers=again)
        (told,) = answer.json()["events"]
        assert told == first.json()["events"][0] | {"created": False}
    assert await all_there_is(pool) == before


async def test_an_id_that_stood_for_something_else_is_a_conflict(http, pool, hook, accounts):
    """It alone is refused: the other events of the list are applied."""
    await post_events(http, hook, event())
    answer = await post_events(
        http, hook, [event(address=BOB), event(event_id="e2", address="new@x.example"), event()]
    )
    problem(answer, 409, "idempotency-key-reused")
    told = [(e["applied"], e["created"], e["conflict"]) for e in answer.json()["events"]]
    assert told == [(False, False, True), (True, True, False), (True, False, False)]
    now = await statuses_of(pool, accounts["default"])
    assert (now[BOB], now["new@x.example"]) == (OPEN, ("feedback", False))


async def test_all_events_are_checked_before_the_first_is_applied(http, pool, hook, accounts):
    """A list with a mistake in it changes nothing."""
    before = await all_there_is(pool)
    for wrong in (
        event(event_id="e2", address="nobody"),
        event(event_id="e2", adress=BOB),
        event(event_id="e2", kind="admin"),
        event(event_id=None),
        event(event_id="\x00"),
        event(event_id="\ud800"),
        event(occurred_at="2999-01-01T00:00:00Z"),
        "event",
        None,
    ):
        answer = await post_events(http, hook, [event(), wrong])
        problem(answer, 422, "invalid")
    assert await all_there_is(pool) == before


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b"1" * 10_000, 400, "malformed"),
        (b"null", 422, "invalid"),
        (b"NaN", 422, "invalid"),
        (b'"event"', 422, "invalid"),
    ],
)
async def test_a_body_that_is_no_event_changes_nothing(
    http, pool, hook, accounts, body, status, slug
):
    """Even if it is signed."""
    before = await all_there_is(pool)
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    problem(answer, status, slug)
    assert await all_there_is(pool) == before


async def test_a_signature_that_does_not_hold_is_refused(http, pool, settings, hook, others):
    """Of another body, time, hook or account; malformed, or not there; whatever the body is."""
    body = json.dumps(event()).encode()
    good = signed(hook.secret, body)
    stamp, mark = good["Sluice-Timestamp"], good["Sluice-Signature"]
    before = await all_there_is(pool)
    with capture_logs() as logs:
        for headers in (
            {},
            {"Sluice-Timestamp": stamp},
            {"Sluice-Signature": mark},
            good | {"Sluice-Signature": mark.removeprefix("v1=")},
            good | {"Sluice-Signature": mark.replace("v1=", "v2=")},
            good | {"Sluice-Signature": "v1="},
            good | {"Sluice-Signature": mark[:-1]},
            good | {"Sluice-Signature": b"v1=\xff"},
            good | {"Sluice-Timestamp": str(int(stamp) + 1)},
            good | {"Sluice-Timestamp": "now"},
            good | {"Sluice-Timestamp": ""},
            {"Sluice-Timestamp": "now", "Sluice-Signature": signature(hook.secret, "now", body)},
            signed(others.secret, body),
            signed(hook.secret, body + b" "),
        ):
            answer = await http.post(hook.events_path, content=body, headers=headers)
            problem(answer, 401, "signature-wrong")
        answer = await http.post(hook.events_path, content=b"{", headers=good)
        problem(answer, 401, "signature-wrong")
    assert set(refusals(logs)) == {(hook.id, "signature_wrong")}
    assert len(refusals(logs)) == 15
    assert await all_there_is(pool) == before


@pytest.mark.parametrize("seconds", [-310, 310, -(10**9)])
async def test_a_message_counts_for_five_minutes(http, pool, hook, accounts, seconds):
    """Signed earlier, or by a clock far ahead, it is refused, however well it is signed."""
    before = await all_there_is(pool)
    answer = await post_events(http, hook, event(), at=time.time() + seconds)
    problem(answer, 401, "stale-timestamp")
    assert await all_there_is(pool) == before
    assert (await post_events(http, hook, event(), at=time.time() - 290)).status_code == 200


async def test_signatures_hold_over_the_very_bytes(http, pool, hook, accounts):
    """For any body that differs in one byte from the one that was signed, none does."""
    body = json.dumps(event()).encode()
    headers = signed(hook.secret, body)

    async def refused(at, byte):
        changed = body[:at] + bytes([byte]) + body[at + 1 :]
        if changed != body:
            answer = await http.post(hook.events_path, content=changed, headers=headers)
            problem(answer, 401, "signature-wrong")

    await for_all(refused, st.integers(0, len(body) - 1), st.integers(0, 255), max_examples=30)
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_each_hook_numbers_its_own_events(http, pool, settings, hook, accounts):
    """Two senders of one account do not know of each other's ids, though they bear one name."""
    second = await create_hook(pool, settings, account="default", source="keap")
    for mine, address in ((hook, ANN), (second, BOB)):
        (told,) = (await post_events(http, mine, event(address=address))).json()["events"]
        assert (told["created"], told["conflict"]) == (True, False)


async def test_one_accounts_hook_cannot_touch_another(http, pool, hook, others, accounts):
    """The same address, event and source: each hook opts out in its own account."""
    for mine in (hook, others):
        (told,) = (await post_events(http, mine, event())).json()["events"]
        assert told["created"]
    assert {row["account_id"] for row in await pool.fetch("select account_id from jobs")} == set(
        accounts.values()
    )


@pytest.mark.parametrize("number", ["0", "-1", "99", str(2**63)])
async def test_a_hook_that_is_none_is_not_there(http, accounts, number):
    """Whatever number somebody tries."""
    problem(await http.post(f"/v1/hooks/{number}/events", json=event()), 404, "not-found")


# Both


async def test_a_hook_that_was_revoked_is_not_there(http, pool, hook, others):
    """From the next request on, by either way; the other hooks go on."""
    before = await all_there_is(pool)
    await revoke_hook(pool, hook.id)
    with capture_logs() as logs:
        problem(await post_events(http, hook, event()), 404, "not-found")
        problem(await http.post(hook.form_path, data={"email": ANN}), 404, "not-found")
    assert refusals(logs) == [(hook.id, "revoked")] * 2
    assert await all_there_is(pool) == before
    assert (await post_events(http, others, event())).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_other_methods_change_nothing(http, pool, hook, accounts, method):
    """A hook is posted to."""
    before = await all_there_is(pool)
    query = urlencode({"email": ANN})
    for path in (hook.form_path, hook.events_path):
        assert (await http.request(method, f"{path}?{query}")).status_code == 405
    assert await all_there_is(pool) == before


async def test_addresses_in_the_query_are_not_read(http, pool, hook, accounts):
    """They would be in the logs of every router on the way."""
    answer = await http.post(f"{hook.form_path}?email={ANN}", data={"name": "Ann"})
    problem(answer, 422, "invalid")
    assert (await statuses_of(pool, accounts["default"]))[ANN] == OPEN


async def test_bodies_are_bounded(http, hook, accounts):
    """Nobody without a key may fill the memory; a signature is looked at after the size."""
    body = b"email=" + b"x" * 5_000_000
    problem(await http.post(hook.form_path, content=body, headers=FORM), 413, "too-large")
    problem(await http.post(hook.events_path, content=body), 413, "too-large")


async def test_no_line_and_no_answer_tells_what_it_should_not(http, hook, others, accounts):
    """Neither an address, a token or a secret in a line, nor the account's name in an answer."""
    token = hook.form_path.rpartition("/")[2]
    with capture_logs() as logs:
        answers = [
            await http.post(hook.form_path, data={"email": ANN, "kind": "x"}),
            await http.post(hook.form_path, data={"email": ANN}),
            await http.post(hook.form_path, data={"email": "nobody"}),
            await post_events(http, hook, event()),
            await post_events(http, hook, event(address=BOB)),
            await http.post(hook.events_path, json=event()),
            await http.post(hook.form_path + "A", data={"email": ANN}),
        ]
    told = json.dumps(logs, default=str)
    for secret in (token, token.partition(".")[2], hook.secret, "x.example"):
        assert secret not in told
    assert "default" not in " ".join(answer.text for answer in answers)


def refusals(logs):
    return [(line["hook"], line["why"]) for line in logs if line["event"] == "hook.refused"]


@pytest.mark.parametrize("source", ["", "two words", "-x", "ä", "x\n", "x" * 101, "\x00"])
async def test_a_source_is_one_word(pool, settings, source):
    """So that it and an event's id, side by side, are one text in one way only."""
    with pytest.raises(WrongInput, match="cannot be the source"):
        await create_hook(pool, settings, account="default", source=source)
    with pytest.raises(NotFound, match="no account"):
        await create_hook(pool, settings, account="nobody", source="keap")
    assert await pool.fetchval("select count(*) from hooks") == 0


async def test_nothing_to_sign_with_is_stored(pool, hook):
    """The table has a random salt, which is of no use without SIGNING_KEY; nor has the repr."""
    row = str(dict(await pool.fetchrow("select * from hooks where id = $1", hook.id)))
    token = hook.form_path.rpartition(".")[2]
    for secret in (hook.secret, token):
        assert secret not in row
        assert secret not in repr(hook)
