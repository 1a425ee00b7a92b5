"""A hook reads the recipient's addresses from a message, and no other person's."""

import itertools
import json
import time
from contextlib import suppress
from unittest.mock import patch
from urllib.parse import quote, unquote_to_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.file_text import require_encoding
from producers.hook_events import read_events
from producers.hook_fields import READ_SECONDS
from producers.hook_forms import read_form
from producers.hook_json import Field
from schemas.errors import InvalidRequest, ReadingTimeout
from tests.kit.hook_messages import read_post
from web import form_parser
from web.form_parser import parse_fields


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
    """A body may be an address alone, lines, or a form encoded as a whole, but not prose."""
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
    """JSON is read by the field's name and its own paths; each object in a list is an event."""
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
    """A sender that does not encode its fields turns a plus sign into a blank."""
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
    """The result is the same wherever a long text is split, and for incomplete escapes."""
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
    """Surrounding text of any length does not hide the address."""
    assert read_post(parse_fields(body.encode())).addresses == ["ada@x.example"]


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
def test_the_address_of_the_list_gives_way_to_another(weak, is_first):
    """The list's address is read only if no other field has one. An invalid recipient address does
    not opt out the list.
    """
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
def test_names_that_describe_a_person_are_not_weak(name):
    """Names such as `unsubscribed_email` mean the recipient."""
    fields = [Field("email", "ada@x.example"), Field(name, "b@x.example")]
    assert read_post(fields).addresses == ["ada@x.example", "b@x.example"]


@pytest.mark.parametrize("number", [1, 25, 200, 201])
def test_no_address_of_weak_fields_is_lost(number):
    """Up to 200 addresses of weak fields are read, and more are rejected. None counts next to
    another field's address.
    """
    fields = [Field(f"optout_emails[{n}]", f"a{n}@x.example") for n in range(number)]
    if number > 200:
        with pytest.raises(InvalidRequest, match="not one person's"):
            read_post(fields)
    else:
        assert read_post(fields * 2).addresses == [f"a{n}@x.example" for n in range(number)]
    post = read_post([*fields, Field("email", "ada@x.example")])
    assert post.addresses == ["ada@x.example"]
    (adjustment,) = map(str, post.adjusted)
    assert (" was " in adjustment, " were " in adjustment) == (number == 1, number > 1)


@pytest.mark.parametrize("between", ["\n", "\r\n", ", ", ";", " ", "%0A", "&"])
@pytest.mark.parametrize("number", [2, 4])
def test_a_body_of_several_bare_addresses_is_rejected(between, number):
    """Several bare addresses may be several people's. None is read, and the response says how to
    name them; a single one is read.
    """
    addresses = [f"a{each}@x.example" for each in range(number)]
    with pytest.raises(
        InvalidRequest, match=r"Nothing was stored\. Send it in a field named email"
    ):
        read_form(parse_fields(between.join(addresses).encode()))
    (post,) = read_form(parse_fields(addresses[0].encode())).posts
    assert post.addresses == addresses[:1]


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
    """The only error for any body is that it has no recipient."""
    with suppress(InvalidRequest):
        assert all(post.addresses for post in read_form(parse_fields(body, content_type)).posts)


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
    """Large bodies, deep objects included, are read within five seconds at a quarter of the maximum
    size.
    """
    began = time.process_time()
    with pytest.raises(InvalidRequest):
        read_form(parse_fields(body, "multipart/form-data; boundary=b"))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "charset", ["idna", "punycode", "unicode_escape", "base64", "zlib", "none"]
)
def test_encodings_that_are_not_for_text_are_not_used(charset):
    """Python's encodings that are not for text, some of which are slow, are not
    used as a charset.
    """
    body = b"email=ann%40x.example&name=xn--bcher-kva.\xff"
    with patch("encodings.idna.Codec.decode", side_effect=AssertionError):
        form = read_form(parse_fields(body, f"text/plain; charset={charset}"))
    assert form.posts[0].addresses == ["ann@x.example"]
    with pytest.raises(InvalidRequest, match="is not supported"):
        require_encoding(charset)


@pytest.mark.parametrize(
    "charset", ["cp1252", "latin1", "shift_jis", "utf-16", "koi8-r", "Windows-1250"]
)
def test_common_charsets_are_accepted(charset):
    """A charset is accepted by any name that Python knows."""
    require_encoding(charset)


@pytest.mark.parametrize(
    "body",
    [
        [{"email": "a@x.example"}] * 30,
        {"events": [{"email": "a@x.example"}] * 30},
        {f"email{number}": "a@x.example" for number in range(30)},
    ],
)
def test_reading_a_message_stops_at_the_time_limit(body):
    """Reading stops at the time limit: some addresses take a millisecond each, and other messages
    wait.
    """
    clock = itertools.count(step=READ_SECONDS / 20)
    content = json.dumps(body).encode()
    for read in (read_events, lambda body: read_form(parse_fields(body))):
        with (
            patch("producers.hook_fields.monotonic", lambda: next(clock)),
            pytest.raises(ReadingTimeout, match="Nothing was stored"),
        ):
            read(content)
