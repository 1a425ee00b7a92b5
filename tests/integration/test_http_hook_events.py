"""Hooks that receive signed events: each is applied once, on its own."""

import asyncio
import json
import time

import pytest
from structlog.testing import capture_logs

from producers import hook_opt_outs
from producers.hook_events import MAX_EVENTS
from producers.hook_opt_outs import HookOptOutApplier
from producers.hooks import create_hook
from tests.kit.factories import fill, statuses_of
from tests.kit.hook_messages import FORM, event, post_events, refusals, signed
from tests.kit.recipients import (
    ANN,
    BOB,
    FAMILY,
    OPEN,
    problem_detail,
    read_everything,
)
from web import form_parser

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
    """Each is a job of its own, however many there are."""
    many = [event(event_id=str(n), address=f"{n}@x.example") for n in range(150)]
    answer = await post_events(http, hook, many)
    assert [told["event_id"] for told in answer.json()["events"]] == [str(n) for n in range(150)]
    assert await pool.fetchval("select count(*) from jobs where state = 'completed'") == 150
    problem_detail(await post_events(http, hook, []), 422, "invalid")
    problem_detail(await post_events(http, hook, [1] * (MAX_EVENTS + 1)), 422, "invalid")


async def test_a_message_that_comes_again_changes_nothing(http, pool, hook, accounts):
    """It is answered as the first time, but for `created`: byte by byte, or signed anew."""
    body = json.dumps(event()).encode()
    headers = signed(hook.secret, body)
    first = await http.post(hook.events_path, content=body, headers=headers)
    before = await read_everything(pool)
    for again in (headers, signed(hook.secret, body, at=time.time() - 60)):
        answer = await http.post(hook.events_path, content=body, headers=again)
        (told,) = answer.json()["events"]
        assert told == first.json()["events"][0] | {"created": False}
    assert await read_everything(pool) == before


async def test_an_id_that_stood_for_something_else_is_a_conflict(http, pool, hook, accounts):
    """It alone is refused: the other events of the list are applied."""
    await post_events(http, hook, event())
    answer = await post_events(
        http, hook, [event(address=BOB), event(event_id="e2", address="new@x.example"), event()]
    )
    problem_detail(answer, 409, "idempotency-key-reused")
    told = [(e["applied"], e["created"], e["conflict"]) for e in answer.json()["events"]]
    assert told == [(False, False, True), (True, True, False), (True, False, False)]
    now = await statuses_of(pool, accounts["default"])
    assert (now[BOB], now["new@x.example"]) == (OPEN, ("feedback", False))


BAD_EVENTS = (
    event(event_id="bad", address="nobody"),
    event(event_id="bad", address=None, adress=BOB),
    event(event_id="bad", address=None, owner={"email": BOB}),
    event(event_id="bad", address=5),
    event(event_id="\ud800", address="\ud800@x.example"),
    {},
    "event",
    ["event"],
    None,
)


async def test_a_bad_event_keeps_no_other_from_being_applied(http, pool, hook, accounts):
    """Each is told of in its place in the answer. Alone it is refused, and so are bad ones only."""
    for bad in BAD_EVENTS:
        problem_detail(await post_events(http, hook, bad), 422, "invalid")
    answer = await post_events(http, hook, list(BAD_EVENTS))
    problem_detail(answer, 422, "invalid")
    assert len(answer.json()["events"]) == len(BAD_EVENTS)
    assert set((await statuses_of(pool, accounts["default"])).values()) == {OPEN}
    with capture_logs() as logs:
        answer = await post_events(http, hook, [*BAD_EVENTS, event(), event(event_id="e2")])
    assert answer.status_code == 200
    *bad, first, second = answer.json()["events"]
    assert [told["applied"] for told in bad] == [False] * len(BAD_EVENTS)
    assert all("Nothing was stored" in told["error"] for told in bad)
    assert [told.get("event_id") for told in bad[:2]] == ["bad", "bad"]
    assert (first["applied"], second["applied"], "error" in first) == (True, True, False)
    assert refusals(logs) == [(hook.id, "malformed")]
    now = await statuses_of(pool, accounts["default"])
    assert (now[ANN], now[BOB]) == (("feedback", False), OPEN)


ODD_EVENTS = (
    ({"event_id": None}, "feedback", []),
    ({"event_id": "\x00"}, "feedback", []),
    ({"event_id": "\ud800"}, "feedback", []),
    ({"event_id": "x" * 3_000}, "feedback", []),
    ({"event_id": 4711}, "feedback", []),
    ({"event_id": {"of": "what"}}, "feedback", []),
    ({"kind": None}, "manual", []),
    ({"kind": "admin"}, "manual", ["kind"]),
    ({"kind": 7}, "manual", ["kind"]),
    ({"kind": " Spam"}, "spam", []),
    ({"occurred_at": "2999-01-01T00:00:00Z"}, "feedback", ["occurred_at"]),
    ({"occurred_at": "yesterday"}, "feedback", ["occurred_at"]),
    ({"occurred_at": "2024-05-06T07:00:00"}, "feedback", ["occurred_at"]),
    ({"occurred_at": "0001-01-01T00:00:00+05:00"}, "feedback", ["occurred_at"]),
    ({"note": "x" * 5_000}, "feedback", ["note"]),
    ({"note": "a\x00b\ud800c"}, "feedback", []),
    ({"note": ["a", {"b": 1}]}, "feedback", []),
    ({"list": {"owner": {"email": BOB}}, "adress": BOB, "\x00": "\ud800"}, "feedback", []),
    ({"address": f"Ann <{ANN}>"}, "feedback", []),
    ({"address": None, "data": {"email": ANN}}, "feedback", []),
    ({"address": "n/a", "recipient": ANN}, "feedback", ["address"]),
)


async def test_what_does_not_matter_loses_no_event(http, pool, hook, accounts):
    """It is applied, once, and told of where something of it is not kept."""
    for number, (changes, kind, adjusted) in enumerate(ODD_EVENTS):
        given = json.dumps(event(**({"event_id": f"e{number}"} | changes)))
        given = given.replace(ANN, f"ann@x{number}.example").encode()
        answers = [
            await http.post(hook.events_path, content=given, headers=signed(hook.secret, given))
            for _ in "12"
        ]
        (first,), (second,) = (answer.json()["events"] for answer in answers)
        told = (first["applied"], first["created"], second["created"])
        assert told == (True, True, False), changes
        assert [text.partition(":")[0] for text in first.get("adjusted", [])] == adjusted
        now = await statuses_of(pool, accounts["default"])
        assert now[f"ann@x{number}.example"] == (kind, False)
        assert now[BOB] == OPEN


async def test_bytes_that_are_not_text_lose_no_event(http, pool, hook, accounts):
    """Of a sender that writes cp1252: the one whose address has them is refused by itself."""
    given = [
        event(address="a@z.example", name="Jos\xe9"),
        event(event_id="2", address="\xe9@z.example"),
    ]
    body = json.dumps(given, ensure_ascii=False).encode("cp1252")
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    good, bad = answer.json()["events"]
    assert (answer.status_code, good["applied"], "Nothing was" in bad["error"]) == (200, True, True)
    says = {"Content-Type": "application/json; charset=cp1252"}
    answer = await http.post(
        hook.events_path, content=body, headers=signed(hook.secret, body) | says
    )
    assert [told["created"] for told in answer.json()["events"]] == [False, True]
    now = await statuses_of(pool, accounts["default"])
    assert (now["a@z.example"], now["\xe9@z.example"]) == (("feedback", False),) * 2


async def test_the_account_tells_which_address_of_an_event_is_meant(http, pool, hook, accounts):
    """One that is odd but known counts as it is written."""
    await fill(pool, accounts["default"], {}, {"=o@x.example": OPEN, "p@x.example": OPEN})
    for number, address in enumerate(["=o@x.example", "x=p@x.example", "=q@x.example"] * 2):
        given = event(event_id=f"e{number % 3}", address=address)
        (told,) = (await post_events(http, hook, given)).json()["events"]
        assert (told["applied"], told["created"]) == (True, number < 3)
    now = await statuses_of(pool, accounts["default"])
    assert {each for each, (status, _) in now.items() if status == "feedback"} == {
        *("=o@x.example", "p@x.example", "q@x.example")
    }


LOST_AND_KEPT = (
    b'{"event_id":"dn2","address":"lost1@x.example","address":"kept1@x.example","kind":"manual"}'
)


async def test_an_event_with_a_name_twice_is_refused(http, pool, hook, accounts):
    """One of two values would be lost. In a list it keeps no other event from being applied."""
    before = await read_everything(pool)
    nested = b'{"event_id": "n", "address": "a@x.example", "data": {"email": "b@x.example", "x": 1,'
    for body in (LOST_AND_KEPT, b"[%b]" % LOST_AND_KEPT, nested + b'"email": "c@x.example"}}'):
        answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
        assert "twice" in problem_detail(answer, 400, "malformed")
        assert await read_everything(pool) == before
    body = b"[%b, %b]" % (LOST_AND_KEPT, json.dumps(event()).encode())
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    bad, good = answer.json()["events"]
    assert (bad["event_id"], "twice" in bad["error"], good["applied"]) == ("dn2", True, True)
    assert await pool.fetchval("select count(*) from jobs") == 1


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b"1" * 10_000, 422, "invalid"),
        (b"null", 422, "invalid"),
        (b"NaN", 422, "invalid"),
        (b'"event"', 422, "invalid"),
    ],
)
async def test_a_body_that_is_no_event_changes_nothing(
    http, pool, hook, accounts, body, status, slug
):
    """Even if it is signed."""
    before = await read_everything(pool)
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    problem_detail(answer, status, slug)
    assert await read_everything(pool) == before


async def test_a_message_told_again_keeps_nobody_waiting(http, hook, monkeypatch):
    """What is asked meanwhile is answered between two of its events, though they ask nothing of
    Postgres any more.
    """
    events = [event(event_id=str(n), address=f"p{n}@x.example") for n in range(40)]
    assert (await post_events(http, hook, events)).status_code == 200
    apply = HookOptOutApplier._apply

    async def noted(*arguments):
        at_events.append(turns)
        return await apply(*arguments)

    monkeypatch.setattr(HookOptOutApplier, "_apply", noted)
    again = asyncio.create_task(post_events(http, hook, events))
    turns, at_events = 0, []
    while not again.done():
        await asyncio.sleep(0)
        turns += 1
    assert not any(each["created"] for each in (await again).json()["events"])
    assert len(at_events) == len(set(at_events)) == len(events)


async def test_each_hook_numbers_its_own_events(http, pool, settings, hook, accounts):
    """Two senders of one account do not know of each other's ids, though they bear one name."""
    second = await create_hook(pool, settings, account="default", source="keap")
    for mine, address in ((hook, ANN), (second, BOB)):
        (told,) = (await post_events(http, mine, event(address=address))).json()["events"]
        assert (told["created"], told["conflict"]) == (True, False)


# More than can be applied in time


class EventClock:
    """The time of `HookOptOutApplier`, which is up once some events were applied."""

    def __init__(self, monkeypatch):
        self.left = None
        monkeypatch.setattr(hook_opt_outs, "monotonic", self)

    def stop_after(self, events):
        """Let the time be up after this number of events."""
        self.left = events

    def __call__(self):
        """Return the time."""
        if self.left is None:
            return 0.0
        self.left -= 1
        return 0.0 if self.left >= -1 else hook_opt_outs.APPLY_SECONDS + 1


@pytest.fixture
def clock(monkeypatch):
    """Replace the time of the applier."""
    return EventClock(monkeypatch)


def events_in_conflict(answer):
    """Return which events of a conflict are in conflict."""
    problem_detail(answer, 409, "idempotency-key-reused")
    return [each.get("conflict", False) for each in answer.json()["events"]]


@pytest.mark.parametrize("applied", [0, 1])
async def test_what_is_not_applied_in_time_is_stored(http, pool, hook, accounts, clock, applied):
    """One job for each kind lists what is left, also when that comes again, or a part of it."""
    told = [
        event(event_id="1", address=ANN),
        event(event_id="2", address=BOB, kind="manual", note="a note"),
        event(event_id="3", address="new@x.example", kind="manual"),
        event(address="fourth@x.example", kind="manual"),
    ]
    clock.stop_after(applied)
    answer = await post_events(http, hook, told)
    assert answer.status_code == 202
    assert [each["applied"] for each in answer.json()["events"]] == [n < applied for n in range(4)]
    rows = await pool.fetch("select params ->> 'kind' as kind, selection from jobs order by id")
    assert sorted((row["kind"], row["selection"]["addresses"]) for row in rows) == [
        ("feedback", 1),
        ("manual", 3),
    ]
    for again, limit in ((told, applied), (told[:3], 3), (told[1:2], 1)):
        clock.stop_after(limit)
        answer = await post_events(http, hook, again)
        assert not any(each["created"] for each in answer.json()["events"])
    assert await pool.fetchval("select count(*) from jobs") == 2


@pytest.mark.parametrize("applied", [0, 1, 2])
async def test_an_id_keeps_its_meaning_when_workers_apply_it(
    http, pool, hook, accounts, clock, applied
):
    """An id that stood for something else is a conflict, in the same message and in later ones."""
    clock.stop_after(applied)
    told = [
        event(event_id="2", address=BOB),
        event(event_id="1", address=ANN),
        event(event_id="1", address=BOB),
        event(event_id="1", address=ANN),
    ]
    answer = await post_events(http, hook, told)
    assert events_in_conflict(answer) == [False, False, True, False]
    assert [each["created"] for each in answer.json()["events"]] == [True, True, False, False]
    stored = await pool.fetchval("select count(*) from jobs")
    other = [event(event_id="1", address="other@x.example")]
    for limit in (0, 1):
        clock.stop_after(limit)
        assert events_in_conflict(await post_events(http, hook, other)) == [True]
    assert await pool.fetchval("select count(*) from jobs") == stored


@pytest.mark.parametrize("applied", [0, 2])
async def test_what_workers_could_not_do_is_done_when_it_comes_again(
    http, pool, hook, accounts, clock, applied
):
    """The job with what was left of a message may have been cancelled."""
    told = [event(event_id="1", address=ANN), event(event_id="2", address=BOB)]
    clock.stop_after(0)
    await post_events(http, hook, told)
    await pool.execute("update jobs set state = 'cancelled', finished_at = clock_timestamp()")
    clock.stop_after(applied)
    again = await post_events(http, hook, told)
    assert [each["created"] for each in again.json()["events"]] == [True, True]
    assert [each["applied"] for each in again.json()["events"]] == [applied > 0] * 2


async def test_a_form_of_more_fields_than_any_is_refused(http, pool, hook, accounts):
    """Before each of them is looked at; as many as that are read."""
    fill_up = "&".join(f"f{n}=x" for n in range(form_parser.MAX_FIELDS - 1))
    for more, status in ((f"&email={ANN}", 200), (f"&x=1&email={BOB}", 422)):
        answer = await http.post(hook.form_path, content=fill_up + more, headers=FORM)
        assert answer.status_code == status, answer.text
    assert await pool.fetchval("select count(*) from jobs") == 1


@pytest.mark.parametrize("signs", [True, False])
async def test_a_message_of_too_many_values_is_refused(http, pool, hook, accounts, signs):
    """By a sentence that says so, whatever they are."""
    for part in ("[],", '{"a":1},', '"",'):
        body = f'{{"email": "{ANN}", "more": [{part * 300_000}0]}}'.encode()
        path = hook.events_path if signs else hook.form_path
        answer = await http.post(path, content=body, headers=signed(hook.secret, body))
        assert "300,000 values" in problem_detail(answer, 422, "invalid")
    assert await pool.fetchval("select count(*) from jobs") == 0


@pytest.mark.parametrize("signs", [True, False])
async def test_a_mail_with_many_commas_refuses_no_event(http, pool, hook, accounts, signs):
    """Some senders put the whole mail beside the address, and what is attached to it."""
    body = json.dumps({"email": ANN, "mail": 'a{"b", ' * 160_000}).encode()
    path = hook.events_path if signs else hook.form_path
    headers = signed(hook.secret, body) | {"Content-Type": "application/json"}
    answer = await http.post(path, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert await pool.fetchval("select count(*) from results where outcome = 'applied'") > 0


async def test_a_number_of_any_length_refuses_no_event(http, pool, hook, accounts):
    """As the event's id, and beside it: each is what it is told by."""
    for number, (address, id_) in enumerate([(ANN, "7" * 5_000), (BOB, "7" * 5_001)], start=1):
        body = f'{{"event_id": {id_}, "email": "{address}", "at": -{"1" * 9_000}}}'.encode()
        answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
        (done,) = answer.json()["events"]
        assert (done["event_id"], done["applied"], done["created"]) == (id_, True, True)
        assert await pool.fetchval("select count(*) from jobs") == number
