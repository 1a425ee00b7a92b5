"""Hooks that receive signed events: each event is applied once, separately."""

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
    """A signed event is applied with its propagation, in the hook's own account."""
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
    """Each event is a separate job, however many there are."""
    many = [event(event_id=str(n), address=f"{n}@x.example") for n in range(150)]
    answer = await post_events(http, hook, many)
    assert [each["event_id"] for each in answer.json()["events"]] == [str(n) for n in range(150)]
    assert await pool.fetchval("select count(*) from jobs where state = 'completed'") == 150
    problem_detail(await post_events(http, hook, []), 422, "invalid")
    problem_detail(await post_events(http, hook, [1] * (MAX_EVENTS + 1)), 422, "invalid")


async def test_a_repeated_message_changes_nothing(http, pool, hook, accounts):
    """A repeated message gets the same answer except for `created`, with the same or a new
    signature.
    """
    body = json.dumps(event()).encode()
    headers = signed(hook.secret, body)
    first = await http.post(hook.events_path, content=body, headers=headers)
    before = await read_everything(pool)
    for repeated_headers in (headers, signed(hook.secret, body, at=time.time() - 60)):
        answer = await http.post(hook.events_path, content=body, headers=repeated_headers)
        (result,) = answer.json()["events"]
        assert result == first.json()["events"][0] | {"created": False}
    assert await read_everything(pool) == before


async def test_a_reused_event_id_is_a_conflict(http, pool, hook, accounts):
    """Only the event with the reused id is rejected; the other events of the list are applied."""
    await post_events(http, hook, event())
    answer = await post_events(
        http, hook, [event(address=BOB), event(event_id="e2", address="new@x.example"), event()]
    )
    problem_detail(answer, 409, "idempotency-key-reused")
    results = [(e["applied"], e["created"], e["conflict"]) for e in answer.json()["events"]]
    assert results == [(False, False, True), (True, True, False), (True, False, False)]
    statuses = await statuses_of(pool, accounts["default"])
    assert (statuses[BOB], statuses["new@x.example"]) == (OPEN, ("feedback", False))


INVALID_EVENTS = (
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


async def test_an_invalid_event_does_not_block_the_others(http, pool, hook, accounts):
    """Each invalid event has its error in the answer. A request with only invalid events is
    rejected.
    """
    for bad in INVALID_EVENTS:
        problem_detail(await post_events(http, hook, bad), 422, "invalid")
    answer = await post_events(http, hook, list(INVALID_EVENTS))
    problem_detail(answer, 422, "invalid")
    assert len(answer.json()["events"]) == len(INVALID_EVENTS)
    assert set((await statuses_of(pool, accounts["default"])).values()) == {OPEN}
    with capture_logs() as logs:
        answer = await post_events(http, hook, [*INVALID_EVENTS, event(), event(event_id="e2")])
    assert answer.status_code == 200
    *bad, first, second = answer.json()["events"]
    assert [result["applied"] for result in bad] == [False] * len(INVALID_EVENTS)
    assert all("Nothing was stored" in result["error"] for result in bad)
    assert [result.get("event_id") for result in bad[:2]] == ["bad", "bad"]
    assert (first["applied"], second["applied"], "error" in first) == (True, True, False)
    assert refusals(logs) == [(hook.id, "malformed")]
    statuses = await statuses_of(pool, accounts["default"])
    assert (statuses[ANN], statuses[BOB]) == (("feedback", False), OPEN)


UNUSUAL_EVENTS = (
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


async def test_unusual_events_are_applied(http, pool, hook, accounts):
    """Such an event is applied once, and `adjusted` names what was not kept."""
    for number, (changes, kind, adjusted) in enumerate(UNUSUAL_EVENTS):
        body = json.dumps(event(**({"event_id": f"e{number}"} | changes)))
        body = body.replace(ANN, f"ann@x{number}.example").encode()
        answers = [
            await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
            for _ in "12"
        ]
        (first,), (second,) = (answer.json()["events"] for answer in answers)
        flags = (first["applied"], first["created"], second["created"])
        assert flags == (True, True, False), changes
        assert [text.partition(":")[0] for text in first.get("adjusted", [])] == adjusted
        statuses = await statuses_of(pool, accounts["default"])
        assert statuses[f"ann@x{number}.example"] == (kind, False)
        assert statuses[BOB] == OPEN


async def test_events_with_invalid_utf_8_are_applied(http, pool, hook, accounts):
    """Only an event whose address has such bytes is rejected, unless the request declares the
    charset.
    """
    events = [
        event(address="a@z.example", name="Jos\xe9"),
        event(event_id="2", address="\xe9@z.example"),
    ]
    body = json.dumps(events, ensure_ascii=False).encode("cp1252")
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    good, bad = answer.json()["events"]
    assert (answer.status_code, good["applied"], "Nothing was" in bad["error"]) == (200, True, True)
    content_type = {"Content-Type": "application/json; charset=cp1252"}
    answer = await http.post(
        hook.events_path, content=body, headers=signed(hook.secret, body) | content_type
    )
    assert [each["created"] for each in answer.json()["events"]] == [False, True]
    statuses = await statuses_of(pool, accounts["default"])
    assert (statuses["a@z.example"], statuses["\xe9@z.example"]) == (("feedback", False),) * 2


async def test_known_addresses_resolve_an_unusual_event(http, pool, hook, accounts):
    """An unusual address that the account has is used as written."""
    await fill(pool, accounts["default"], {}, {"=o@x.example": OPEN, "p@x.example": OPEN})
    for number, address in enumerate(["=o@x.example", "x=p@x.example", "=q@x.example"] * 2):
        body = event(event_id=f"e{number % 3}", address=address)
        (result,) = (await post_events(http, hook, body)).json()["events"]
        assert (result["applied"], result["created"]) == (True, number < 3)
    statuses = await statuses_of(pool, accounts["default"])
    assert {each for each, (status, _) in statuses.items() if status == "feedback"} == {
        *("=o@x.example", "p@x.example", "q@x.example")
    }


DUPLICATE_NAME_EVENT = (
    b'{"event_id":"dn2","address":"lost1@x.example","address":"kept1@x.example","kind":"manual"}'
)


async def test_an_event_with_a_duplicate_name_is_rejected(http, pool, hook, accounts):
    """An event with a duplicate name is rejected, since one of its values would be lost. The other
    events of a list are applied.
    """
    before = await read_everything(pool)
    nested = b'{"event_id": "n", "address": "a@x.example", "data": {"email": "b@x.example", "x": 1,'
    for body in (
        DUPLICATE_NAME_EVENT,
        b"[%b]" % DUPLICATE_NAME_EVENT,
        nested + b'"email": "c@x.example"}}',
    ):
        answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
        assert "twice" in problem_detail(answer, 400, "malformed")
        assert await read_everything(pool) == before
    body = b"[%b, %b]" % (DUPLICATE_NAME_EVENT, json.dumps(event()).encode())
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
async def test_a_body_without_an_event_changes_nothing(
    http, pool, hook, accounts, body, status, slug
):
    """The body is rejected even if it is signed, and nothing is stored."""
    before = await read_everything(pool)
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    problem_detail(answer, status, slug)
    assert await read_everything(pool) == before


async def test_a_repeated_message_does_not_block_other_tasks(http, hook, monkeypatch):
    """While a repeated message is handled, other tasks run between its events. Its events need no
    query to Postgres.
    """
    events = [event(event_id=str(n), address=f"p{n}@x.example") for n in range(40)]
    assert (await post_events(http, hook, events)).status_code == 200
    apply = HookOptOutApplier._apply

    async def apply_and_record(*arguments):
        turns_at_events.append(turns)
        return await apply(*arguments)

    monkeypatch.setattr(HookOptOutApplier, "_apply", apply_and_record)
    repeated = asyncio.create_task(post_events(http, hook, events))
    turns, turns_at_events = 0, []
    while not repeated.done():
        await asyncio.sleep(0)
        turns += 1
    assert not any(each["created"] for each in (await repeated).json()["events"])
    assert len(turns_at_events) == len(set(turns_at_events)) == len(events)


async def test_event_ids_are_separate_for_each_hook(http, pool, settings, hook, accounts):
    """Two hooks of one account have separate event ids, even with the same source."""
    second = await create_hook(pool, settings, account="default", source="keap")
    for own, address in ((hook, ANN), (second, BOB)):
        (result,) = (await post_events(http, own, event(address=address))).json()["events"]
        assert (result["created"], result["conflict"]) == (True, False)


async def test_event_ids_of_forms_are_separate(http, pool, hook, accounts):
    """A signed event and a form with one id are two opt-outs."""
    (result,) = (await post_events(http, hook, event(event_id="17"))).json()["events"]
    answer = await http.post(hook.form_path, data={"email": BOB, "event_id": "17"})
    assert (result["created"], answer.status_code, answer.json()["created"]) == (True, 200, True)
    assert (await statuses_of(pool, accounts["default"]))[BOB] != OPEN


# More events than can be applied in time


class EventClock:
    """A clock for `HookOptOutApplier` whose time is up after some events."""

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
    """Replace the applier's clock."""
    return EventClock(monkeypatch)


def events_in_conflict(answer):
    """Return, for each event of a conflict, whether it is in conflict."""
    problem_detail(answer, 409, "idempotency-key-reused")
    return [each.get("conflict", False) for each in answer.json()["events"]]


@pytest.mark.parametrize("applied", [0, 1])
async def test_events_not_applied_in_time_are_stored(http, pool, hook, accounts, clock, applied):
    """The events that are left are stored in one job for each kind. Repeating the message, or a
    part of it, stores nothing.
    """
    events = [
        event(event_id="1", address=ANN),
        event(event_id="2", address=BOB, kind="manual", note="a note"),
        event(event_id="3", address="new@x.example", kind="manual"),
        event(address="fourth@x.example", kind="manual"),
    ]
    clock.stop_after(applied)
    answer = await post_events(http, hook, events)
    assert answer.status_code == 202
    assert [each["applied"] for each in answer.json()["events"]] == [n < applied for n in range(4)]
    rows = await pool.fetch("select params ->> 'kind' as kind, selection from jobs order by id")
    assert sorted((row["kind"], row["selection"]["addresses"]) for row in rows) == [
        ("feedback", 1),
        ("manual", 3),
    ]
    for repeated, limit in ((events, applied), (events[:3], 3), (events[1:2], 1)):
        clock.stop_after(limit)
        answer = await post_events(http, hook, repeated)
        assert not any(each["created"] for each in answer.json()["events"])
    assert await pool.fetchval("select count(*) from jobs") == 2


@pytest.mark.parametrize("applied", [0, 1, 2])
async def test_stored_events_keep_their_ids(http, pool, hook, accounts, clock, applied):
    """A reused id with another address is a conflict, in the same message and in later ones."""
    clock.stop_after(applied)
    events = [
        event(event_id="2", address=BOB),
        event(event_id="1", address=ANN),
        event(event_id="1", address=BOB),
        event(event_id="1", address=ANN),
    ]
    answer = await post_events(http, hook, events)
    assert events_in_conflict(answer) == [False, False, True, False]
    assert [each["created"] for each in answer.json()["events"]] == [True, True, False, False]
    stored = await pool.fetchval("select count(*) from jobs")
    other = [event(event_id="1", address="other@x.example")]
    for limit in (0, 1):
        clock.stop_after(limit)
        assert events_in_conflict(await post_events(http, hook, other)) == [True]
    assert await pool.fetchval("select count(*) from jobs") == stored


@pytest.mark.parametrize("applied", [0, 2])
async def test_a_repeated_message_replaces_a_cancelled_job(
    http, pool, hook, accounts, clock, applied
):
    """If the job with the remaining events was cancelled, the repeated message is applied."""
    events = [event(event_id="1", address=ANN), event(event_id="2", address=BOB)]
    clock.stop_after(0)
    await post_events(http, hook, events)
    await pool.execute("update jobs set state = 'cancelled', finished_at = clock_timestamp()")
    clock.stop_after(applied)
    repeated = await post_events(http, hook, events)
    assert [each["created"] for each in repeated.json()["events"]] == [True, True]
    assert [each["applied"] for each in repeated.json()["events"]] == [applied > 0] * 2


async def test_a_form_with_too_many_fields_is_rejected(http, pool, hook, accounts):
    """A form with too many fields is rejected unread; one at the limit is accepted."""
    padding = "&".join(f"f{n}=x" for n in range(form_parser.MAX_FIELDS - 1))
    for field, status in ((f"&email={ANN}", 200), (f"&x=1&email={BOB}", 422)):
        answer = await http.post(hook.form_path, content=padding + field, headers=FORM)
        assert answer.status_code == status, answer.text
    assert await pool.fetchval("select count(*) from jobs") == 1


@pytest.mark.parametrize("is_signed", [True, False])
async def test_a_message_with_too_many_values_is_rejected(http, pool, hook, accounts, is_signed):
    """The error names the limit, whatever the values are."""
    for part in ("[],", '{"a":1},', '"",'):
        body = f'{{"email": "{ANN}", "more": [{part * 300_000}0]}}'.encode()
        path = hook.events_path if is_signed else hook.form_path
        answer = await http.post(path, content=body, headers=signed(hook.secret, body))
        assert "300,000 values" in problem_detail(answer, 422, "invalid")
    assert await pool.fetchval("select count(*) from jobs") == 0


@pytest.mark.parametrize("is_signed", [True, False])
async def test_an_event_with_a_whole_mail_is_accepted(http, pool, hook, accounts, is_signed):
    """An event with a whole mail in another field is accepted, since some senders add one."""
    body = json.dumps({"email": ANN, "mail": 'a{"b", ' * 160_000}).encode()
    path = hook.events_path if is_signed else hook.form_path
    headers = signed(hook.secret, body) | {"Content-Type": "application/json"}
    answer = await http.post(path, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert await pool.fetchval("select count(*) from results where outcome = 'applied'") > 0


async def test_a_number_of_any_length_is_accepted(http, pool, hook, accounts):
    """A number of any length is accepted, as the event's id and in other fields."""
    for number, (address, id_) in enumerate([(ANN, "7" * 5_000), (BOB, "7" * 5_001)], start=1):
        body = f'{{"event_id": {id_}, "email": "{address}", "at": -{"1" * 9_000}}}'.encode()
        answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
        (result,) = answer.json()["events"]
        assert (result["event_id"], result["applied"], result["created"]) == (id_, True, True)
        assert await pool.fetchval("select count(*) from jobs") == number
