"""The events in a hook's message, and what each inherits from the object around it."""

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.hook_events import MAX_EVENTS, InvalidEvent, read_events
from producers.hook_fields import Adjustment
from producers.hook_forms import read_form
from producers.hook_opt_outs import HookOptOut
from schemas.errors import InvalidRequest
from tests.kit.field_names import OTHERS, RECIPIENTS
from tests.kit.hook_messages import read_event, read_post
from web.form_parser import parse_fields


@pytest.mark.parametrize("value", ["[1]", '{"a": 1}', "[]"])
def test_an_event_id_is_kept_unchanged(value):
    """An event id that looks like JSON is not decoded."""
    form = urlencode({"event_id": value, "email": "ada@x.example"}).encode()
    assert read_post(parse_fields(form)).event_id == value


def test_events_of_a_form_inherit_the_fields_around_them():
    """Events inherit the kind, but the id only if there is one event."""
    two = '[{"email": "a@x.example", "event_id": 1}, {"email": "b@x.example", "kind": "feedback"}]'
    outer = {"kind": "spam", "event_id": "7"}
    a, b = read_form(parse_fields(urlencode({"data": two} | outer).encode())).posts
    assert (a.kind, a.event_id, b.kind, b.event_id) == ("spam", "1", "feedback", None)
    one = '[{"email": "a@x.example"}, {"email": "", "x": 1}]'
    (a,) = read_form(parse_fields(urlencode({"data": one} | outer).encode())).posts
    assert (a.kind, a.event_id) == ("spam", "7")


def test_a_form_has_a_maximum_of_events():
    """A form has the same maximum of events as a list of signed events."""
    many = [{"email": f"a{n}@x.example"} for n in range(MAX_EVENTS + 1)]
    assert len(read_form(parse_fields(json.dumps(many[1:]).encode())).posts) == MAX_EVENTS
    with pytest.raises(InvalidRequest, match="events"):
        read_form(parse_fields(json.dumps(many).encode()))


WRAPPED = (
    '{"events": [{"email": "a@x.example", "kind": "spam", "event_id": "1"},'
    ' {"email": "b@x.example", "event_id": "2"}], "kind": "feedback", "event_id": "3"}'
)


def test_a_list_of_events_inside_an_object_is_several_opt_outs():
    """Each event in the list is a separate opt-out, in a form, in its field and in a signed
    message. An outer `kind` applies to events without one.
    """
    expected = [(["a@x.example"], "spam", "1"), (["b@x.example"], "feedback", "2")]
    in_field = urlencode({"payload": WRAPPED}).encode()
    forms = [read_form(parse_fields(body)).posts for body in (WRAPPED.encode(), in_field)]
    signed = [each.post for each in read_events(WRAPPED.encode()) if isinstance(each, HookOptOut)]
    for posts in (*forms, signed):
        assert [(post.addresses, post.kind, post.event_id) for post in posts] == expected


@pytest.mark.parametrize(
    ("own", "outer", "kind", "is_reported"),
    [
        ({}, {"kind": "spam"}, "spam", False),
        ({"kind": "feedback"}, {"kind": "spam"}, "feedback", False),
        ({}, {"kind": "complained"}, "manual", True),
        ({"kind": "spam"}, {"kind": "complained"}, "spam", False),
        ({"kind": "complained"}, {}, "manual", True),
        ({"kind": "complained"}, {"kind": "spam"}, "spam", False),
        ({"kind": "complained"}, {"kind": "odd"}, "manual", True),
    ],
)
def test_an_inherited_kind_is_reported_like_an_own_one(own, outer, kind, is_reported):
    """An unknown inherited kind is reported by each event that inherits it, at any depth."""
    events = [{"email": "a@x.example"} | own, {"email": "b@x.example"} | own]
    for wrapped in ({"events": events}, {"data": [{"events": events}, {"email": "c@x.example"}]}):
        body = json.dumps(wrapped | outer).encode()
        in_form = urlencode({"payload": body.decode()}).encode()
        forms = [read_form(parse_fields(each)).posts for each in (body, in_form)]
        signed = [each.post for each in read_events(body) if isinstance(each, HookOptOut)]
        for posts in (*forms, signed):
            of_list = [post for post in posts if post.addresses != ["c@x.example"]]
            assert [post.addresses for post in of_list] == [["a@x.example"], ["b@x.example"]]
            for post in of_list:
                assert post.kind == kind
                assert [each.what for each in post.adjusted] == ["kind"] * is_reported


def test_events_inherit_fields_from_the_nearest_object():
    """An event inherits the nearest note, time and kind, but never an id, which belongs to one
    event.
    """
    inner = [{"email": "c@x.example"}, {"email": "d@x.example", "note": "own", "kind": "spam"}]
    body = {
        "kind": "feedback",
        "note": "of all",
        "occurred_at": "2026-01-01T00:00:00Z",
        "event_id": "1",
        "events": [
            {"email": "a@x.example", "note": "of some", "event_id": "2", "events": inner},
            {"email": "b@x.example", "event_id": "3"},
        ],
    }
    read = read_events(json.dumps(body).encode())
    events = {each.post.addresses[0][0]: each for each in read if isinstance(each, HookOptOut)}
    assert {
        name: (each.post.kind, each.note, each.post.event_id) for name, each in events.items()
    } == {
        "a": ("feedback", "of some", "2"),
        "b": ("feedback", "of all", "3"),
        "c": ("feedback", "of some", None),
        "d": ("spam", "own", None),
    }
    assert {str(each.occurred_at) for each in events.values()} == {"2026-01-01 00:00:00+00:00"}


@pytest.mark.parametrize("broken", ["broken@", "broken", "@", "a@b@c"])
def test_an_invalid_address_next_to_events_loses_no_event(broken):
    """The response names the field, and each event of the list is read."""
    events = json.dumps([{"email": "a@x.example"}, {"email": "b@x.example"}])
    in_field = urlencode({"email": broken, "events": events}).encode()
    whole = json.dumps({"email": broken, "events": json.loads(events)}).encode()
    for body in (in_field, whole):
        read = read_form(parse_fields(body))
        assert [post.addresses for post in read.posts] == [["a@x.example"], ["b@x.example"]]
        assert read.rejected_fields == ["email"]


def test_three_hundred_events_inside_an_object_are_separate_opt_outs():
    """Each event is reported at its position, including those without an address."""
    many: list[object] = [{"email": f"a{n}@x.example"} for n in range(300)]
    body = json.dumps({"data": {"recipients": [*many, {}]}}).encode()
    assert len(read_form(parse_fields(body)).posts) == 300
    assert [type(each) for each in read_events(body)] == [HookOptOut] * 300 + [InvalidEvent]


def test_several_addresses_of_a_contact_are_one_opt_out():
    """A list whose name means addresses holds one person's addresses, even as objects."""
    for name in ("emails", "email_addresses", "contact_emails"):
        body = json.dumps({name: [{"email": "a@x.example"}, {"email": "b@x.example"}]}).encode()
        (post,) = read_form(parse_fields(body)).posts
        (event,) = read_events(body)
        assert isinstance(event, HookOptOut)
        assert post.addresses == event.post.addresses == ["a@x.example", "b@x.example"]


def test_a_duplicate_name_in_an_event_loses_no_other_event():
    """An event with a duplicate name is invalid; the other event and the outer address are read."""
    body = (
        b'{"email": "c@x.example", "events": [{"email": "a@x.example", "x": 1, "x": 2},'
        b' {"email": "b@x.example"}]}'
    )
    c, a, b = read_events(body)
    assert isinstance(a, InvalidEvent)
    assert a.is_repeated
    assert isinstance(b, HookOptOut)
    assert isinstance(c, HookOptOut)
    assert (b.post.addresses, c.post.addresses) == (["b@x.example"], ["c@x.example"])


EVENTS = '[{"email": "ada@x.example", "name": "Jos\xe9"}, {"email": "jos\xe9@x.example"}]'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_events_are_read_in_any_unicode_encoding(encoding):
    """Events are read in each Unicode encoding, with or without a byte order mark."""
    read = read_events(EVENTS.encode(encoding))
    found = [each.post.addresses for each in read if isinstance(each, HookOptOut)]
    assert found == [["ada@x.example"], ["jos\xe9@x.example"]]


def test_undecodable_bytes_lose_no_other_event():
    """An address with undecodable bytes is rejected unless the sender names the charset; other
    events are read.
    """
    for read in (read_events(EVENTS.encode("cp1252")), read_events(EVENTS.encode(), "cp1252")):
        assert isinstance(read[0], HookOptOut)
        assert read[0].post.addresses == ["ada@x.example"]
    first, second = read_events(EVENTS.encode("cp1252"))
    assert (type(first), type(second)) == (HookOptOut, InvalidEvent)
    _, second = read_events(EVENTS.encode("cp1252"), "cp1252")
    assert isinstance(second, HookOptOut)
    assert second.post.addresses == ["jos\xe9@x.example"]


@given(st.binary(max_size=30).filter(lambda raw: not set(raw) & set(b'"\\')), st.booleans())
def test_no_bytes_in_a_member_lose_an_opt_out(raw, is_form):
    """No bytes in another member of an event, or of the JSON of a form, lose its opt-out."""
    body = b'{"note": "' + raw + b'", "email": "ada@x.example"}'
    if is_form:
        assert read_post(parse_fields(body, "application/json")).addresses == ["ada@x.example"]
    (event,) = read_events(body)
    assert isinstance(event, HookOptOut)
    assert event.post.addresses == ["ada@x.example"]


objects = st.dictionaries(
    st.sampled_from([*RECIPIENTS, *OTHERS, "event_id", "kind", "occurred_at"]) | st.text(),
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    max_size=5,
)


@given(objects, st.sampled_from(RECIPIENTS), objects)
def test_other_members_of_an_event_do_not_lose_it(before, name, after):
    """For any other members, the recipient is found and no other person's address is read."""
    others = dict.fromkeys(OTHERS, "someone.else@y.example")
    members = {**before, **others, **after, name: "ann@x.example"}
    event = read_event(members)
    assert not isinstance(event, InvalidEvent)
    assert "ann@x.example" in event.post.addresses
    assert "someone.else@y.example" not in event.post.addresses


def test_an_event_whose_address_is_in_an_unknown_field_is_named():
    """The other events are applied, and the response names the unread field."""
    body = b'[{"email": "a@x.example"}, {"e_m": "b@x.example"}, {"name": "Bo"}]'
    form = read_form(parse_fields(body))
    assert [post.addresses for post in form.posts] == [["a@x.example"]]
    assert form.rejected_fields == ["1.e_m"]


@pytest.mark.parametrize(
    "body",
    [
        {"email": "ann@x.example", "email2": "broken@"},
        {"email2": "broken@", "events": [{"email": "ann@x.example"}, {"email": "bob@x.example"}]},
        {"email2": "broken@", "events": [{"email": "ann@x.example"}]},
        {
            "email2": "broken@",
            "data": {"events": [{"email": "ann@x.example"}, {"email": "b@x.example"}]},
        },
    ],
)
def test_a_signed_event_reports_invalid_addresses(body):
    """Invalid addresses in or around a signed event are reported, as in a form."""
    for event in read_events(json.dumps(body).encode()):
        assert isinstance(event, HookOptOut)
        assert Adjustment("address", "no address was read of email2") in event.post.adjusted
