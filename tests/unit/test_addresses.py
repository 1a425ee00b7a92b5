"""Which texts are email addresses, and which addresses are the same."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.addresses import (
    MAX_ADDRESS_LENGTH,
    InvalidAddress,
    NormalizedAddress,
    normalize_address,
)

ATOMS = "abzAZ09_!#$%&'*+-/=?^`{|}~"
UGLY = (
    ATOMS
    + '. "\\@<>[]():;,\t\n\r\x00\x1fäßİǰé\u0301\u0338'
    + "\uff20\ufe6b。\uff0e文א\u0661\u200b\u00a0\ud800"
)

local_parts = st.one_of(
    st.text(ATOMS + "..", min_size=1, max_size=70),
    st.text(UGLY, max_size=12),
    st.text(UGLY, max_size=8).map(lambda text: f'"{text}"'),
    st.sampled_from(["info", "INFO", "Sales", "a" * 64, "a" * 65, "é" * 64, "mailto:a", "Ann <a"]),
)
labels = st.one_of(
    st.text("abzAZ09-", min_size=1, max_size=8),
    st.text(UGLY, max_size=5),
    st.sampled_from(["example", "bücher", "xn--bcher-kva", "xn--a", "a" * 63, "ü" * 50, "אב", "1"]),
)
domains = st.one_of(
    st.lists(labels, min_size=1, max_size=6).map(".".join),
    st.tuples(labels, st.sampled_from(["com", "org", "test", "local", "c0m", "de."])).map(".".join),
    st.sampled_from(["example.com", "Example.COM", "[127.0.0.1]", "[IPv6:::1]", "example。com"]),
)
addresses = st.tuples(
    local_parts, st.sampled_from(["@", "@", "@", "", "@@", "\uff20"]), domains
).map("".join)


def by_library(text: str) -> str | None:
    """Return the match key as the library computes it, or None if the library rejects the text."""
    try:
        valid = validate_email(
            text.strip(), check_deliverability=False, allow_quoted_local=True, allow_smtputf8=True
        )
    except EmailNotValidError:
        return None
    return f"{valid.local_part.casefold()}@{valid.ascii_domain}"


def match_key(text: str) -> str | None:
    """Return the match key; None for an invalid address."""
    try:
        return normalize_address(text).match_key
    except InvalidAddress:
        return None


@given(st.one_of(addresses, st.text(UGLY, max_size=30)))
@example("a@@example.com")
@example("a@\u0338example.com")
@example("=@\u0338.com")
@example("info@Example.com.")
def test_the_fast_path_and_the_library_agree(text: str) -> None:
    """For any text, our fast path accepts what the library accepts, with the same match key."""
    assert match_key(text) == by_library(text)


@given(
    st.integers(1, 66),
    st.integers(252, 257),
    st.sampled_from(["", "ü.", "xn--bcher-kva.", "bücher."]),
    st.sampled_from(["ascii", "given"]),
)
def test_the_fast_path_and_the_library_agree_on_every_length(
    local_part: int, whole: int, start: str, measured: str
) -> None:
    """The length limit of a whole address holds for each of its encoded forms."""
    shown = start.encode("idna").decode() if measured == "ascii" else start
    room = whole - local_part - len(f"@{shown}.com".encode())
    labels = ".".join("d" * min(50, room - at) for at in range(0, room, 51))
    text = f"{'a' * local_part}@{start}{labels}.com"
    assert match_key(text) == by_library(text)


@given(addresses)
def test_the_match_key_of_a_match_key_is_itself(text: str) -> None:
    """A match key is an address with the same match key, so importing a list of keys finds the same
    contacts.
    """
    key = match_key(text)
    assert key is None or len(key.encode()) > MAX_ADDRESS_LENGTH or match_key(key) == key


@given(st.emails(), st.sampled_from(["", " ", "\t", "\r\n", "\u00a0"]))
def test_case_and_surrounding_space_do_not_matter(address: str, space: str) -> None:
    """Addresses that differ only in case are the same. The original is kept without surrounding
    space.
    """
    found = normalize_address(f"{space}{address.upper()}{space}")
    assert found == NormalizedAddress(address.upper(), normalize_address(address).match_key)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("A.B+Tag@Example.COM", "a.b+tag@example.com"),
        ("x@BÜCHER.example.net", "x@xn--bcher-kva.example.net"),
        ("Jörg@xn--bcher-kva.example", "jörg@xn--bcher-kva.example"),
        ("STRASSE@example.com", "strasse@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ('"plain"@example.com', "plain@example.com"),
        ('"Two Words"@example.com', '"two words"@example.com'),
    ],
)
def test_keys(text: str, key: str) -> None:
    """Dots and tags are kept, case is folded, the domain becomes ASCII, and needless quotes are
    dropped.
    """
    assert normalize_address(text) == NormalizedAddress(text, key)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "@-sign"),
        ("nobody", "must have an @-sign"),
        ("a@", "after the @-sign"),
        ("@example.com", "before the @-sign"),
        ("mailto:a@example.com", "invalid characters"),
        ("Ann <a@example.com>", "display name"),
        ("<a@example.com>", "angle brackets"),
        ("a@example.com, b@example.com", "invalid characters"),
        ("a@example.com;b@example.com", "invalid characters"),
        ("a@localhost", "period"),
        ("a@[127.0.0.1]", "IP address"),
        ("a" * 288 + "@example.com", "at most 254"),
        ("a@" + "d" * 10_000_000, "at most 254"),
        ("a\x00@example.com", "U+0000"),
    ],
)
def test_rejections_say_why(text: str, why: str) -> None:
    """Each rejection is a short sentence that a person can act on."""
    with pytest.raises(InvalidAddress) as refused:
        normalize_address(text)
    assert why in str(refused.value)
    assert len(str(refused.value)) <= 200
