"""The addresses in a field of a hook's message, and which reading an account means."""

import json
import time
from contextlib import suppress
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.hook_addresses import ParsedAddresses, parse_addresses, resolve_candidates
from producers.hook_events import read_events
from producers.hook_json import Field
from schemas.addresses import InvalidAddress
from schemas.errors import InvalidRequest
from tests.kit.hook_messages import read_post


def default_addresses(read: ParsedAddresses) -> list[str]:
    """Return the addresses for an account that knows none of them."""
    return [each.default.address for each in read.candidates]


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
def test_text_around_an_address_is_removed(text, addresses):
    """A name, brackets, quotes, a scheme and double encoding are removed."""
    expected = [part if "@" in part else f"{part}@x.example" for part in addresses]
    assert default_addresses(parse_addresses(text)) == expected


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
def test_an_invalid_address_is_rejected(text):
    """No address is made up from an invalid one."""
    with pytest.raises(InvalidAddress):
        parse_addresses(text)


@given(st.text() | st.text(alphabet="@<>(),; %4+a\x00\"'=."), st.booleans())
def test_any_text_has_addresses_or_is_rejected(text, blank_is_plus):
    """Any text gives addresses or InvalidAddress; no other error is raised."""
    try:
        read = parse_addresses(text, blank_is_plus=blank_is_plus)
    except InvalidAddress:
        return
    addresses = default_addresses(read)
    assert addresses
    assert all("@" in address for address in addresses)


@pytest.mark.parametrize(
    "text",
    ["<" * 4_999 + "@", "<" + "@" * 49, "(" * 4_000 + "a@x.example", '"' * 4_000 + "@x.example"],
)
def test_any_text_is_parsed_in_time(text):
    """Brackets and quotes in any arrangement do not make parsing slow."""
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
def test_the_account_decides_which_address_is_meant(text, known, meant):
    """The longest reading that the account knows is used. Without one, a blank is a plus sign
    unless capitals show a name.
    """
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
def test_an_address_of_a_contact_precedes_one_from_a_message(text, held, meant):
    """An address that a contact holds precedes one known only from a message, even a longer one."""
    read = parse_addresses(f"{text}@x.example", blank_is_plus=True)
    keys = {key for each in read.candidates for _, key in each.readings}
    known = {key: key == f"{held}@x.example".casefold() for key in keys}
    assert [each.address for each in resolve_candidates(read.candidates, known)] == [
        f"{meant}@x.example"
    ]


words = st.sampled_from(["eve", "news", "Ada", "x=eve", "'eve", "4711|news", "", "eve+news"])


locals_ = st.lists(words, min_size=1, max_size=4).map(" ".join)


@given(st.lists(locals_, min_size=1, max_size=4), st.dictionaries(locals_, st.booleans()))
def test_a_repeated_message_is_read_as_before(locals_of_a_form, known):
    """A repeated message is read as before although the account now knows its addresses. The chosen
    address is one of the readings.
    """
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
def test_the_account_is_not_queried_for_a_plain_address(local, blank_is_plus):
    """The account is queried only for ambiguous addresses."""
    form = read_post([Field("email", f"{local[:60].rstrip('._+-')}@x.example", blank_is_plus)])
    assert form.ambiguous_match_keys == []


def test_a_field_holds_one_person():
    """A blank before the @-sign is a plus sign if one may have been lost; otherwise
    it ends a name.
    """
    assert read_post([Field("email", "Ada b@x.example")]).addresses == ["b@x.example"]
    assert read_post([Field("email", "a b@x.example", blank_is_plus=True)]).addresses == [
        "a+b@x.example"
    ]
    with pytest.raises(InvalidRequest, match="name the charset"):
        read_post([Field("email", "J\udce9 b\udce9@x.example")])


@pytest.mark.parametrize("text", ["Ada Lovelace lov@x.example", " lov@x.example"])
def test_a_name_before_an_address_is_removed(text):
    """A name, or a blank at the beginning of a form's field, does not become part
    of the address.
    """
    assert read_post([Field("email", text, blank_is_plus=True)]).addresses == ["lov@x.example"]


MARKS = "\u0300\u0316" * 24_000


@pytest.mark.parametrize("text", [f"a{MARKS}@x.example", MARKS, f"{MARKS} ann@x.example"])
def test_thousands_of_combining_marks_are_not_normalized(text):
    """Thousands of combining marks are not normalized, which would block the process for seconds. A
    few are.
    """
    with patch("unicodedata.normalize", side_effect=AssertionError):
        read_events(json.dumps({"email": text}).encode())
    (event,) = read_events(json.dumps({"email": "jose\u0301@x.example"}).encode())
    assert event.post.addresses == ["jos\u00e9@x.example"]
