"""What is read of a hook's message: the recipient's addresses, and nobody else's."""

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.column_names import names_address
from producers.field_names import ADDRESS_WORDS, AROUND, Meaning, meaning_of
from producers.hook_addresses import addresses_in
from producers.hook_events import BadEvent, read_event
from producers.hook_fields import Field, read_post
from producers.http.forms import fields_in
from schemas.addresses import InvalidAddress
from schemas.errors import WrongInput
from schemas.json_input import read_pairs

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
    assert meaning_of(name) is Meaning.ADDRESS


@pytest.mark.parametrize("name", OTHERS)
def test_names_of_another_person_s_address(name):
    """An owner, a sender or a friend is not opted out."""
    assert meaning_of(name) is not Meaning.ADDRESS


def test_the_words_of_names_are_documented():
    """Those that make it an address, and those that may stand around it."""
    for word in (*ADDRESS_WORDS, *AROUND):
        assert f"`{word}`" in HOOKS, word


@given(st.lists(st.sampled_from([*ADDRESS_WORDS, *AROUND, "7", "x"]), min_size=1, max_size=8))
def test_a_name_is_read_in_one_way_and_soon(words):
    """Whatever known words it is made of, with anything between them."""
    began = time.process_time()
    found = {meaning_of.__wrapped__(between.join(words)) for between in ("", " ", "_", ".", "][")}
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
    ],
)
def test_what_stands_around_an_address_is_no_part_of_it(text, addresses):
    """A name, brackets, quotes, a scheme, or an encoding too many."""
    expected = [part if "@" in part else f"{part}@x.example" for part in addresses]
    assert addresses_in(text).addresses == expected


@pytest.mark.parametrize(
    "text",
    ["", "n/a", "@", "nobody@", "@x.example", "Ada ada@x.example", "a@@x.example", "a\x00@x.y"],
)
def test_what_is_no_address_is_refused(text):
    """And not made one."""
    with pytest.raises(InvalidAddress):
        addresses_in(text)


@given(st.text() | st.text(alphabet="@<>(),; %4+a\x00\"'=."), st.booleans())
def test_any_text_has_addresses_or_is_refused(text, blank_is_plus):
    """Nothing else is raised."""
    try:
        read = addresses_in(text, blank_is_plus=blank_is_plus)
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
        addresses_in(text, blank_is_plus=True)
    assert time.process_time() - began < 0.5


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
    with suppress(WrongInput):
        assert read_post(fields_in(body, content_type)).addresses


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
    assert not isinstance(event, BadEvent)
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
    ],
    ids=["names", "pairs", "list", "object", "long path", "parts"],
)
def test_a_large_body_is_read_in_seconds(body):
    """A fourth of what is read at most. Names do not add up, of deep objects least of all."""
    began = time.process_time()
    with pytest.raises(WrongInput):
        read_post(fields_in(body, "multipart/form-data; boundary=b"))
    assert time.process_time() - began < 5


def test_a_field_is_one_person_s():
    """A blank within an address is a plus sign only where one may have been lost."""
    assert read_post([Field("email", "a b@x.example", blank_is_plus=True)]).addresses == [
        "a+b@x.example"
    ]
    with pytest.raises(WrongInput):
        read_post([Field("email", "a b@x.example")])


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
    assert names_address(header)
    assert meaning_of(header) is Meaning.ADDRESS


@pytest.mark.parametrize(
    "header",
    [
        *("Owner Email", "Account Manager Email", "Reply-To", "From Email", "Sender Email"),
        *("User Email", "Assigned to email", "Referred by email", "Spouse Email", "cc_email"),
    ],
)
def test_the_address_of_another_person_is_no_recipients(header):
    """Neither an import nor a hook opts out whom a field of another person names."""
    assert not names_address(header)
    assert meaning_of(header) is not Meaning.ADDRESS
