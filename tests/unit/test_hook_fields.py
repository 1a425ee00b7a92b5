"""What is read of a hook's message: the recipient's addresses, and nobody else's."""

import itertools
import json
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch
from urllib.parse import quote, unquote_to_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.column_names import is_address_column
from producers.field_names import ADDRESS_WORDS, AROUND, Meaning, field_meaning
from producers.file_text import require_encoding
from producers.hook_addresses import parse_addresses, resolve_candidates
from producers.hook_events import MAX_EVENTS, InvalidEvent, OptOutEvent, read_event, read_events
from producers.hook_fields import READ_SECONDS, Adjustment, read_post
from producers.hook_forms import read_form
from producers.hook_json import Field
from schemas.addresses import InvalidAddress
from schemas.errors import InvalidRequest, ReadingTimeout
from schemas.json_input import read_pairs
from web import form_parser
from web.form_parser import parse_fields

HOOKS = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()

RECIPIENTS = (
    *("email", "Email", "EMAIL1", "e-mail", "E-Mail 2 Address", "Email Address 2", "EmailAddress3"),
    *(
        "mail",
        "address",
        "recipient",
        "Recipient[]",
        "emails[0][address]",
        "email[]",
        "Email (Work)",
    ),
    *("data[email]", "contact[email]", "Contact.Email", "inf_field_Email", "contactEmail"),
    *("inf_field_EmailAddress2", "fields[email][value]", "merges[EMAIL]", "data[merges][EMAIL]"),
    *(
        "subscriber_email",
        "customer.email",
        "lead[email]",
        "properties.email.value",
        "primary-email",
    ),
)
OTHERS = (
    *("owner_email", "Owner.Email", "account manager", "account_manager[email]", "reply_to"),
    *(
        "replyToEmail",
        "from",
        "from_email",
        "email_from",
        "sender",
        "sender[address]",
        "user[email]",
    ),
    *("contact[owner][email]", "contact.owner_email", "friend_email", "spouse email", "cc", "bcc"),
    *("to", "assistant_email", "company_email", "ip_address", "postal address", "note", "message"),
    *(
        "referrer_email",
        "email_template",
        "",
        "@",
        "emailowner",
        "sales rep email",
        "raw_message",
        "event",
        "homeowner mail",
    ),
)


@pytest.mark.parametrize("name", RECIPIENTS)
def test_names_of_a_recipient_s_address(name):
    """As Keap, forms and other systems write them."""
    assert field_meaning(name) is Meaning.ADDRESS


@pytest.mark.parametrize("name", OTHERS)
def test_names_of_another_person_s_address(name):
    """An owner, a sender or a friend is not opted out."""
    assert field_meaning(name) is not Meaning.ADDRESS


def test_the_words_of_names_are_documented():
    """Those that make it an address, and those that may stand around it."""
    for word in (*ADDRESS_WORDS, *AROUND):
        assert f"`{word}`" in HOOKS, word


@given(st.lists(st.sampled_from([*ADDRESS_WORDS, *AROUND, "7", "x"]), min_size=1, max_size=8))
def test_a_name_is_read_in_one_way_and_soon(words):
    """Whatever known words it is made of, with anything between them."""
    began = time.process_time()
    found = {
        field_meaning.__wrapped__(between.join(words)) for between in ("", " ", "_", ".", "][")
    }
    assert len(found) == 1
    assert time.process_time() - began < 1
    if "x" not in words and set(words) & set(ADDRESS_WORDS) and len("".join(words)) < 50:
        assert found == {Meaning.ADDRESS}


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (" ada@x.example ", ["ada@x.example"]),
        ("Ada Byron <ada@x.example>", ["ada@x.example"]),
        ('"Byron, Ada" <ada@x.example>, <b@x.example>', ["ada@x.example", "b@x.example"]),
        ("ada@x.example (Ada)", ["ada@x.example"]),
        ("MAILTO:ada@x.example?subject=unsubscribe", ["ada@x.example"]),
        ("'ada@x.example'", ["ada@x.example"]),
        ("'ada'@x.example", ["ada@x.example"]),
        ('"ada@x.example"', ["ada@x.example"]),
        ("=ada@x.example", ["ada@x.example"]),
        ("email=ada@x.example", ["ada@x.example"]),
        ("4711|ada@x.example", ["ada@x.example"]),
        ("%20ada@x.example", ["ada@x.example"]),
        ("ada%40x.example", ["ada@x.example"]),
        ("eve%2Bnews@x.example", ["eve+news@x.example"]),
        ("ada@x.example.", ["ada@x.example"]),
        ("ada@x.example\x00", ["ada@x.example"]),
        ("\u200bada@x.example\xa0", ["ada@x.example"]),
        ("a@x.example; b@x.example\nc@x.example d@x.example", list("abcd")),
        ('"a b"@x.example', ['"a b"@x.example']),
        ("o'brien@x.example", ["o'brien@x.example"]),
        ("user%host@x.example", ["user%host@x.example"]),
        ("José@x.example", ["José@x.example"]),
        ("x=ada@x.example", ["x=ada@x.example"]),
        ("\N{LEFT DOUBLE QUOTATION MARK}ada@x.example", ["ada@x.example"]),
    ],
)
def test_what_stands_around_an_address_is_no_part_of_it(text, addresses):
    """A name, brackets, quotes, a scheme, or an encoding too many."""
    expected = [part if "@" in part else f"{part}@x.example" for part in addresses]
    assert parse_addresses(text).addresses == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n/a",
        "@",
        "nobody@",
        "@x.example",
        "a@@x.example",
        "a\x00@x.y",
        "Jos\ufffd@x.y",
    ],
)
def test_what_is_no_address_is_refused(text):
    """And not made one."""
    with pytest.raises(InvalidAddress):
        parse_addresses(text)


@given(st.text() | st.text(alphabet="@<>(),; %4+a\x00\"'=."), st.booleans())
def test_any_text_has_addresses_or_is_refused(text, blank_is_plus):
    """Nothing else is raised."""
    try:
        read = parse_addresses(text, blank_is_plus=blank_is_plus)
    except InvalidAddress:
        return
    assert read.addresses
    assert all("@" in address for address in read.addresses)


@pytest.mark.parametrize(
    "text",
    ["<" * 4_999 + "@", "<" + "@" * 49, "(" * 4_000 + "a@x.example", '"' * 4_000 + "@x.example"],
)
def test_no_text_takes_long(text):
    """However its brackets and quotes stand."""
    began = time.process_time()
    with suppress(InvalidAddress):
        parse_addresses(text, blank_is_plus=True)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("text", "known", "meant"),
    [
        ("eve news", [], "eve+news"),
        ("eve news", ["news"], "news"),
        ("eve news", ["eve"], "eve+news"),
        ("eve news", ["news", "eve+news"], "eve+news"),
        ("eve news 2024", ["news+2024", "2024"], "news+2024"),
        ("Ada Lovelace ada", [], "ada"),
        ("Ada Lovelace ada", ["ada"], "ada"),
        ("Ada Lovelace ada", ["lovelace+ada"], "Lovelace+ada"),
        ("Eve News eve news", [], "news"),
        ("Eve News eve news", ["eve+news", "news"], "eve+news"),
        ("eve  news", ["news"], "news"),
        ("'ada", [], "ada"),
        ("'ada", ["'ada", "ada"], "'ada"),
        ("4711|ada", ["4711|ada"], "4711|ada"),
        ("=ada", ["=ada"], "=ada"),
        ("x=ada", [], "x=ada"),
        ("x=ada", ["ada"], "ada"),
        ("x=ada", ["x=ada", "ada"], "x=ada"),
        ("user%host", ["host"], "host"),
        ("#eve news", ["eve+news"], "eve+news"),
        ("Bob x=ada", ["ada"], "ada"),
    ],
)
def test_the_account_tells_which_address_is_meant(text, known, meant):
    """The longest that it knows; without one a blank is a plus sign, or capitals show a name."""
    read = parse_addresses(f"{text}@x.example", blank_is_plus=True)
    found = resolve_candidates(read.candidates, {f"{each}@x.example": False for each in known})
    assert [each.address for each in found] == [f"{meant}@x.example"]


@pytest.mark.parametrize(
    ("text", "held", "meant"),
    [
        ("Eva maria", "maria", "maria"),
        ("Eva maria", "Eva+maria", "Eva+maria"),
        ("'ada", "ada", "ada"),
        ("4711|ada", "ada", "ada"),
        ("x=ada", "ada", "ada"),
    ],
)
def test_an_address_of_a_contact_comes_before_one_that_a_message_brought(text, held, meant):
    """What was known only from how a message was read gives way, however long it is."""
    read = parse_addresses(f"{text}@x.example", blank_is_plus=True)
    keys = {key for each in read.candidates for _, key in each.readings}
    known = {key: key == f"{held}@x.example".casefold() for key in keys}
    assert [each.address for each in resolve_candidates(read.candidates, known)] == [
        f"{meant}@x.example"
    ]


words = st.sampled_from(["eve", "news", "Ada", "x=eve", "'eve", "4711|news", "", "eve+news"])
locals_ = st.lists(words, min_size=1, max_size=4).map(" ".join)


@given(st.lists(locals_, min_size=1, max_size=4), st.dictionaries(locals_, st.booleans()))
def test_what_comes_again_is_read_as_before(locals_of_a_form, known):
    """Though the account now knows what it was told; and what is chosen is among the readings."""
    fields = [Field("email", f"{each}@x.example", blank_is_plus=True) for each in locals_of_a_form]
    try:
        post = read_post(fields)
    except InvalidRequest:
        return
    keys = {
        f"{each.replace(' ', '+').casefold()}@x.example": is_held for each, is_held in known.items()
    }
    first = post.for_account(keys)
    again = post.for_account(dict.fromkeys(first.match_keys, False) | keys)
    assert first.addresses == again.addresses
    assert set(first.match_keys) <= set(post.ambiguous_match_keys) | set(post.match_keys)
    assert len(post.ambiguous_match_keys) <= 10 * len(fields)


@given(st.from_regex(r"[a-z0-9]+([._+-][a-z0-9]+)*", fullmatch=True), st.booleans())
def test_a_plain_address_is_not_asked_for(local, blank_is_plus):
    """Only where there is an ambiguity is the account asked."""
    form = read_post([Field("email", f"{local[:60].rstrip('._+-')}@x.example", blank_is_plus)])
    assert form.ambiguous_match_keys == []


@pytest.mark.parametrize(
    ("body", "addresses"),
    [
        (b"ada@x.example", ["ada@x.example"]),
        (b"\r\n ada+news@x.example\r\n", ["ada+news@x.example"]),
        (b"ada%40x.example", ["ada@x.example"]),
        (b"Ada <ada@x.example>", ["ada@x.example"]),
        (b"mailto:ada@x.example", ["ada@x.example"]),
        (b'"ada@x.example"', ["ada@x.example"]),
        ("ada@x.example".encode("utf-16"), ["ada@x.example"]),
        (b"Email: ada@x.example", ["ada@x.example"]),
        (b"Name: Ada\nE-Mail: ada@x.example\nOwner Email: b@x.example", ["ada@x.example"]),
        (b"email%3Dada%40x.example", ["ada@x.example"]),
        (b"email%3Dada%2Bnews%40x.example%26kind%3Dspam", ["ada+news@x.example"]),
        (b"%7B%22email%22%3A%22ada%40x.example%22%7D", ["ada@x.example"]),
        (b'{"email": "ada@x.example"}=', ["ada@x.example"]),
        (b"%7B%22email%22%3A%22ada%40x.example%22%7D=", ["ada@x.example"]),
        (b"owner,ada@x.example", None),
        (b"owner|ada@x.example", None),
        (b"from: ada@x.example", None),
        (b"Owner Email: ada@x.example", None),
        (b"ada@x.example b@x.example", None),
        (b"please leave ada@x.example alone", None),
        (b"a=b&ada@x.example", None),
        (b"{%25" + b"25" * 100_000, None),
    ],
)
def test_a_body_may_be_an_address_alone(body, addresses):
    """Or lines, or a form that was wholly encoded; prose is none of them."""
    try:
        found = read_post(parse_fields(body)).addresses
    except InvalidRequest:
        found = None
    assert found == addresses


@pytest.mark.parametrize(
    ("name", "value", "addresses"),
    [
        ("payload", '{"email": "ada@x.example"}', [["ada@x.example"]]),
        (
            "data",
            ' {"contact": {"email": "ada@x.example", "email2": "b@x.example"}}\n',
            [["ada", "b"]],
        ),
        ("mandrill_events", '[{"email": "ada@x.example"}]', [["ada"]]),
        (
            "mandrill_events",
            '[{"msg": {"email": "ada@x.example"}}, {"email": "b@x.example"}]',
            [["ada"], ["b"]],
        ),
        ("data", '[{"email": "ada@x.example"}, {"type": "ping"}]', [["ada"]]),
        ("email", '["ada@x.example", "b@x.example"]', [["ada", "b"]]),
        ("email", '{"value": "ada@x.example"}', [["ada"]]),
        ("", '{"email": "ada@x.example"}', [["ada"]]),
        ("owner", '{"email": "ada@x.example"}', None),
        ("payload", '{"owner": {"email": "ada@x.example"}}', None),
        ("payload", '{"email": "ada@x.example"', None),
        ("payload", '{"email": ' + "[" * 100_000 + "]}", None),
    ],
)
def test_json_in_a_field_is_read(name, value, addresses):
    """By the field's name and the paths in it. Each of several objects in a list is an event."""
    posted = urlencode({name: value, "x": "y"}).encode()
    parts = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n--b--'
    for body in (posted, parts.encode()):
        try:
            posts = read_form(parse_fields(body, "x; boundary=b")).posts
        except InvalidRequest:
            assert addresses is None
            continue
        found = [[each.partition("@")[0] for each in post.addresses] for post in posts]
        expected = [[each.partition("@")[0] for each in post] for post in addresses or ()]
        assert sorted(found) == expected


def test_a_plus_sign_in_json_of_a_form_may_come_as_a_blank():
    """Of a sender that encodes no field."""
    body = b'payload={"email":"eve+news@x.example"}'
    assert read_post(parse_fields(body)).addresses == ["eve+news@x.example"]


@given(
    parts=st.lists(
        st.sampled_from(
            [b"%", b"%4", b"%41", b"\\", b"x", b"\xe9", b"25", b"%00", b"\n", b"%c3%A9"]
        )
        | st.binary(max_size=3)
    )
)
def test_escapes_are_decoded_as_the_standard_library_does(parts):
    """Wherever a long text is cut to be decoded, and whether or not all escapes are whole."""
    with patch.object(form_parser, "_DECODE_BATCH_BYTES", 7):
        assert form_parser.percent_decode(b"".join(parts)) == unquote_to_bytes(b"".join(parts))


@pytest.mark.parametrize(
    "body",
    [
        "Dear all,\n" * 20_000 + "Email: ada@x.example\n" + "wrote: so\n" * 300_000,
        "email=ada@x.example&message=" + "%2525" * 700_000,
        "payload=" + quote(json.dumps({"text": "+%" * 400_000, "email": "ada@x.example"})),
    ],
)
def test_an_address_in_a_long_message_is_read(body):
    """Whatever stands beside it."""
    assert read_post(parse_fields(body.encode())).addresses == ["ada@x.example"]


@pytest.mark.parametrize("value", ["[1]", '{"a": 1}', "[]"])
def test_what_names_an_event_is_kept_as_it_came(value):
    """An id, a contact or a note may look like JSON."""
    form = urlencode({"event_id": value, "email": "ada@x.example"}).encode()
    assert read_post(parse_fields(form)).event_id == value


def test_events_of_a_form_share_what_stands_beside_them():
    """Its kind; but an id only where the rest is one event."""
    two = '[{"email": "a@x.example", "event_id": 1}, {"email": "b@x.example", "kind": "feedback"}]'
    beside = {"kind": "spam", "event_id": "7"}
    a, b = read_form(parse_fields(urlencode({"data": two} | beside).encode())).posts
    assert (a.kind, a.event_id, b.kind, b.event_id) == ("spam", "1", "feedback", None)
    one = '[{"email": "a@x.example"}, {"email": "", "x": 1}]'
    (a,) = read_form(parse_fields(urlencode({"data": one} | beside).encode())).posts
    assert (a.kind, a.event_id) == ("spam", "7")


def test_a_form_has_so_many_events_and_no_more():
    """As a list of signed events has."""
    many = [{"email": f"a{n}@x.example"} for n in range(MAX_EVENTS + 1)]
    assert len(read_form(parse_fields(json.dumps(many[1:]).encode())).posts) == MAX_EVENTS
    with pytest.raises(InvalidRequest, match="events"):
        read_form(parse_fields(json.dumps(many).encode()))


@pytest.mark.parametrize(
    "weak",
    [
        "unsubscribe_email",
        "Unsubscribe[email]",
        "optout_email",
        "email_body",
        "mail.text",
        "OptOut",
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_the_address_of_the_list_is_none_beside_another(weak, is_first):
    """It is read where no other field has one; a wrong one is no reason to opt out the list."""
    weak = weak if "mail" in weak else f"{weak} mail"
    for text, addresses in (
        ("ada@x.example", ["ada@x.example"]),
        ("n/a", ["list@x.example"]),
        ("", ["list@x.example"]),
        ("ada@", None),
    ):
        fields = [Field(weak, "list@x.example"), Field("email", text)]
        try:
            post = read_post(fields if is_first else fields[::-1])
        except InvalidRequest:
            assert addresses is None
            continue
        assert post.addresses == addresses
        assert any(weak in str(each) for each in post.adjusted) is (text == "ada@x.example")


@pytest.mark.parametrize(
    "name",
    ["unsubscribed_email", "optedout.email", "unsubscribed data email", "body.email", "text email"],
)
def test_words_of_a_person_are_not_weak(name):
    """Who was unsubscribed is the recipient."""
    fields = [Field("email", "ada@x.example"), Field(name, "b@x.example")]
    assert read_post(fields).addresses == ["ada@x.example", "b@x.example"]


@pytest.mark.parametrize("number", [1, 25, 200, 201])
def test_no_address_of_weak_fields_is_lost(number):
    """All are read, or more than one person has are refused; beside another none counts."""
    fields = [Field(f"optout_emails[{n}]", f"a{n}@x.example") for n in range(number)]
    if number > 200:
        with pytest.raises(InvalidRequest, match="not one person's"):
            read_post(fields)
    else:
        assert read_post(fields * 2).addresses == [f"a{n}@x.example" for n in range(number)]
    beside = read_post([*fields, Field("email", "ada@x.example")])
    assert beside.addresses == ["ada@x.example"]
    (told,) = map(str, beside.adjusted)
    assert (" was " in told, " were " in told) == (number == 1, number > 1)


WRAPPED = (
    '{"events": [{"email": "a@x.example", "kind": "spam", "event_id": "1"},'
    ' {"email": "b@x.example", "event_id": "2"}], "kind": "feedback", "event_id": "3"}'
)


def test_a_list_of_events_inside_an_object_is_several_people_s():
    """In a form, in its field and in a signed message; `kind` beside them counts for the others."""
    told = [(["a@x.example"], "spam", "1"), (["b@x.example"], "feedback", "2")]
    in_field = urlencode({"payload": WRAPPED}).encode()
    forms = [read_form(parse_fields(body)).posts for body in (WRAPPED.encode(), in_field)]
    signed = [each.post for each in read_events(WRAPPED.encode()) if isinstance(each, OptOutEvent)]
    for posts in (*forms, signed):
        assert [(post.addresses, post.kind, post.event_id) for post in posts] == told


@pytest.mark.parametrize(
    ("own", "beside", "kind", "told"),
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
def test_a_kind_beside_events_is_told_of_as_their_own_is(own, beside, kind, told):
    """One that is not known is told of by each event that it stands for, however deep in lists."""
    events = [{"email": "a@x.example"} | own, {"email": "b@x.example"} | own]
    for wrapped in ({"events": events}, {"data": [{"events": events}, {"email": "c@x.example"}]}):
        body = json.dumps(wrapped | beside).encode()
        in_form = urlencode({"payload": body.decode()}).encode()
        forms = [read_form(parse_fields(each)).posts for each in (body, in_form)]
        signed = [each.post for each in read_events(body) if isinstance(each, OptOutEvent)]
        for posts in (*forms, signed):
            of_list = [post for post in posts if post.addresses != ["c@x.example"]]
            assert [post.addresses for post in of_list] == [["a@x.example"], ["b@x.example"]]
            for post in of_list:
                assert post.kind == kind
                assert [each.what for each in post.adjusted] == ["kind"] * told


def test_what_stands_beside_events_counts_where_they_say_nothing():
    """The nearest of what is around counts: the note, the time and the kind, but never an id, which
    is one event's.
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
    events = {each.post.addresses[0][0]: each for each in read if isinstance(each, OptOutEvent)}
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
def test_a_broken_address_beside_events_keeps_none_of_them(broken):
    """The field is named in the answer, and each event of the list is read."""
    events = json.dumps([{"email": "a@x.example"}, {"email": "b@x.example"}])
    in_field = urlencode({"email": broken, "events": events}).encode()
    whole = json.dumps({"email": broken, "events": json.loads(events)}).encode()
    for body in (in_field, whole):
        read = read_form(parse_fields(body))
        assert [post.addresses for post in read.posts] == [["a@x.example"], ["b@x.example"]]
        assert read.refused == ["email"]


@pytest.mark.parametrize("between", ["\n", "\r\n", ", ", ";", " ", "%0A", "&"])
@pytest.mark.parametrize("number", [2, 4])
def test_a_body_of_several_bare_addresses_is_no_one_s(between, number):
    """Nobody can tell whether they are one person's: nothing is read, and the answer says how to
    name them. One alone is read.
    """
    addresses = [f"a{each}@x.example" for each in range(number)]
    with pytest.raises(
        InvalidRequest, match=r"Nothing was stored\. Send it in a field named email"
    ):
        read_form(parse_fields(between.join(addresses).encode()))
    (post,) = read_form(parse_fields(addresses[0].encode())).posts
    assert post.addresses == addresses[:1]


def test_three_hundred_events_inside_an_object_are_not_one_person_s():
    """Each is told of in its place, those without an address too."""
    many: list[object] = [{"email": f"a{n}@x.example"} for n in range(300)]
    body = json.dumps({"data": {"recipients": [*many, {}]}}).encode()
    assert len(read_form(parse_fields(body)).posts) == 300
    assert [type(each) for each in read_events(body)] == [OptOutEvent] * 300 + [InvalidEvent]


def test_several_addresses_of_a_contact_are_one_person_s():
    """Objects in a list whose name says that it has addresses."""
    for name in ("emails", "email_addresses", "contact_emails"):
        body = json.dumps({name: [{"email": "a@x.example"}, {"email": "b@x.example"}]}).encode()
        (post,) = read_form(parse_fields(body)).posts
        (event,) = read_events(body)
        assert isinstance(event, OptOutEvent)
        assert post.addresses == event.post.addresses == ["a@x.example", "b@x.example"]


def test_a_name_twice_in_a_wrapped_event_loses_no_other():
    """And the address beside the list is an event too."""
    body = (
        b'{"email": "c@x.example", "events": [{"email": "a@x.example", "x": 1, "x": 2},'
        b' {"email": "b@x.example"}]}'
    )
    c, a, b = read_events(body)
    assert isinstance(a, InvalidEvent)
    assert a.is_repeated
    assert isinstance(b, OptOutEvent)
    assert isinstance(c, OptOutEvent)
    assert (b.post.addresses, c.post.addresses) == (["b@x.example"], ["c@x.example"])


EVENTS = '[{"email": "ada@x.example", "name": "Jos\xe9"}, {"email": "jos\xe9@x.example"}]'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_events_are_read_in_any_unicode(encoding):
    """With a byte order mark or without."""
    read = read_events(EVENTS.encode(encoding))
    found = [each.post.addresses for each in read if isinstance(each, OptOutEvent)]
    assert found == [["ada@x.example"], ["jos\xe9@x.example"]]


def test_bytes_that_are_not_text_lose_no_other_event():
    """The address with them is refused, unless the sender names the charset."""
    for read in (read_events(EVENTS.encode("cp1252")), read_events(EVENTS.encode(), "cp1252")):
        assert isinstance(read[0], OptOutEvent)
        assert read[0].post.addresses == ["ada@x.example"]
    first, second = read_events(EVENTS.encode("cp1252"))
    assert (type(first), type(second)) == (OptOutEvent, InvalidEvent)
    _, second = read_events(EVENTS.encode("cp1252"), "cp1252")
    assert isinstance(second, OptOutEvent)
    assert second.post.addresses == ["jos\xe9@x.example"]


@given(st.binary(max_size=30).filter(lambda raw: not set(raw) & set(b'"\\')), st.booleans())
def test_no_bytes_of_a_text_lose_an_opt_out(raw, is_form):
    """Whatever is in another member of an event, or of the JSON of a form."""
    body = b'{"note": "' + raw + b'", "email": "ada@x.example"}'
    if is_form:
        assert read_post(parse_fields(body, "application/json")).addresses == ["ada@x.example"]
    (event,) = read_events(body)
    assert isinstance(event, OptOutEvent)
    assert event.post.addresses == ["ada@x.example"]


types = st.sampled_from(
    ["", "multipart/form-data; boundary=b", "text/plain; charset=utf-16", "x; charset=zlib", ";="]
)
bodies = st.binary() | st.lists(
    st.sampled_from(
        [b"--b", b"\r\n", b'name="email"', b"a@x.example", b"&", b"=", b"{", b"\xff\xfe"]
    )
).map(b"".join)


@given(bodies, types)
def test_any_body_is_read_as_fields(body, content_type):
    """Nothing is raised for what is odd, but that there is no recipient."""
    with suppress(InvalidRequest):
        assert all(post.addresses for post in read_form(parse_fields(body, content_type)).posts)


objects = st.dictionaries(
    st.sampled_from([*RECIPIENTS, *OTHERS, "event_id", "kind", "occurred_at"]) | st.text(),
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    max_size=5,
)


@given(objects, st.sampled_from(RECIPIENTS), objects)
def test_no_member_of_an_event_loses_it(before, name, after):
    """Whatever they are called and hold, the recipient is found, and nobody who is not one."""
    others = dict.fromkeys(OTHERS, "someone.else@y.example")
    given_ = {**before, **others, **after, name: "ann@x.example"}
    event = read_event(read_pairs(json.dumps(given_)))
    assert not isinstance(event, InvalidEvent)
    assert "ann@x.example" in event.post.addresses
    assert "someone.else@y.example" not in event.post.addresses


@pytest.mark.parametrize(
    "body",
    [
        b"a&" * 500_000,
        b"a=@&" * 250_000,
        b"[" + b'"@",' * 250_000 + b"1]",
        b"{" + b"".join(b'"%d":"@",' % n for n in range(60_000)) + b'"x":1}',
        b'{"'
        + b"x" * 500_000
        + b'":{'
        + b"".join(b'"%d":1,' % n for n in range(120_000))
        + b'"x":1}}',
        b"\r\n--b\r\n" * 125_000,
        b"a={}&" * 200_000,
        b"a=[{},{}]&" * 100_000,
        b"a=[" + b"{}," * 300_000 + b"{}]",
        b"email:\n" * 150_000,
    ],
    ids=[
        *("names", "pairs", "list", "object", "long path", "parts"),
        *("objects", "lists", "list in a field", "lines"),
    ],
)
def test_a_large_body_is_read_in_seconds(body):
    """A fourth of what is read at most. Names do not add up, of deep objects least of all."""
    began = time.process_time()
    with pytest.raises(InvalidRequest):
        read_form(parse_fields(body, "multipart/form-data; boundary=b"))
    assert time.process_time() - began < 5


def test_a_field_is_one_person_s():
    """A blank before its @-sign is a plus sign where one may have been lost, else a name's end."""
    assert read_post([Field("email", "Ada b@x.example")]).addresses == ["b@x.example"]
    assert read_post([Field("email", "a b@x.example", blank_is_plus=True)]).addresses == [
        "a+b@x.example"
    ]
    with pytest.raises(InvalidRequest, match="name the charset"):
        read_post([Field("email", "J\udce9 b\udce9@x.example")])


@pytest.mark.parametrize("text", ["Ada Lovelace lov@x.example", " lov@x.example"])
def test_a_name_before_an_address_is_no_part_of_it(text):
    """Nor is a blank at the beginning of a form's field: neither makes an address up."""
    assert read_post([Field("email", text, blank_is_plus=True)]).addresses == ["lov@x.example"]


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Email",
            "E-mail 2 Address",
            "Email (Work)",
            "EmailAddress3",
            "Contact Email",
            "Courriel",
        ),
        *("E-Mail-Adresse", "Client Email", "Secondary E-Mail", "Correo electrónico", "email_id"),
    ],
)
def test_what_an_import_takes_for_an_address_a_hook_does_too(header):
    """A header that an import reads for addresses is read in a form as well."""
    assert is_address_column(header)
    assert field_meaning(header) is Meaning.ADDRESS


@pytest.mark.parametrize(
    "header",
    [
        *("Owner Email", "Account Manager Email", "Reply-To", "From Email", "Sender Email"),
        *("User Email", "Assigned to email", "Referred by email", "Spouse Email", "cc_email"),
    ],
)
def test_the_address_of_another_person_is_no_recipients(header):
    """Neither an import nor a hook opts out whom a field of another person names."""
    assert not is_address_column(header)
    assert field_meaning(header) is not Meaning.ADDRESS


def test_an_event_whose_address_is_in_an_unknown_field_is_named():
    """Others are applied, and its sender is told which field was not read."""
    body = b'[{"email": "a@x.example"}, {"e_m": "b@x.example"}, {"name": "Bo"}]'
    form = read_form(parse_fields(body))
    assert [post.addresses for post in form.posts] == [["a@x.example"]]
    assert form.refused == ["1.e_m"]


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
def test_a_signed_event_tells_of_what_is_no_address(body):
    """As a form does: what stands in the event, or around it, was meant to be opted out."""
    for event in read_events(json.dumps(body).encode()):
        assert isinstance(event, OptOutEvent)
        assert Adjustment("address", "no address was read of email2") in event.post.adjusted


MARKS = "\u0300\u0316" * 24_000


@pytest.mark.parametrize("text", [f"a{MARKS}@x.example", MARKS, f"{MARKS} ann@x.example"])
def test_marks_by_the_thousand_are_not_sorted(text):
    """Their order would take seconds, in which Python does nothing else; a few are put in order."""
    with patch("unicodedata.normalize", side_effect=AssertionError):
        read_events(json.dumps({"email": text}).encode())
    (event,) = read_events(json.dumps({"email": "jose\u0301@x.example"}).encode())
    assert event.post.addresses == ["jos\u00e9@x.example"]


@pytest.mark.parametrize(
    "charset", ["idna", "punycode", "unicode_escape", "base64", "zlib", "none"]
)
def test_what_is_no_charset_is_not_decoded_by(charset):
    """Some of Python's encodings take a second for 100 KB, and none of them is of text."""
    body = b"email=ann%40x.example&name=xn--bcher-kva.\xff"
    with patch("encodings.idna.Codec.decode", side_effect=AssertionError):
        form = read_form(parse_fields(body, f"text/plain; charset={charset}"))
    assert form.posts[0].addresses == ["ann@x.example"]
    with pytest.raises(InvalidRequest, match="is not supported"):
        require_encoding(charset)


@pytest.mark.parametrize(
    "charset", ["cp1252", "latin1", "shift_jis", "utf-16", "koi8-r", "Windows-1250"]
)
def test_what_people_write_in_is_a_charset(charset):
    """By any name that Python knows it by."""
    require_encoding(charset)


@pytest.mark.parametrize(
    "body",
    [
        [{"email": "a@x.example"}] * 30,
        {"events": [{"email": "a@x.example"}] * 30},
        {f"email{number}": "a@x.example" for number in range(30)},
    ],
)
def test_reading_a_message_ends(body):
    """Some addresses take a millisecond, and there may be thousands: other messages wait."""
    clock = itertools.count(step=READ_SECONDS / 20)
    given = json.dumps(body).encode()
    for read in (read_events, lambda body: read_form(parse_fields(body))):
        with (
            patch("producers.hook_fields.monotonic", lambda: next(clock)),
            pytest.raises(ReadingTimeout, match="Nothing was stored"),
        ):
            read(given)
