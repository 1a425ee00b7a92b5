"""Crafted texts take no more time or memory than other texts of their length.

A pattern or parser with quadratic time would need many minutes for these texts: the timeout detects
a hang and does not measure speed. `tests.kit.hostile_bodies` measures speed.
"""

import encodings
import io
import json
import pkgutil
import re
import tracemalloc
from contextlib import suppress
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cli.rendering import json_text
from producers import column_names, contact_id_files, field_names, status_cells, table
from producers.address_files import read_addresses
from producers.file_text import FileText, find_charset
from producers.formula_guard import strip_formula_guard
from producers.hook_addresses import _split_at_signs, parse_addresses
from producers.hook_json import decode_text
from producers.import_file import open_contacts
from producers.import_rejections import quoted
from producers.short_text_cache import MAX_CACHED_LENGTH, cache_short_texts
from runtime.log_lines import redact
from runtime.signing import parse_hook_token
from schemas import addresses
from schemas.addresses import (
    MAX_ADDRESS_LENGTH,
    MAX_WRAPPED_LENGTH,
    InvalidAddress,
    NormalizedAddress,
    find_correction,
    normalize_address,
    parse_address,
)
from schemas.errors import InvalidRequest
from tests.kit.property_examples import example_count
from web.form_parser import parse_fields
from web.prefer_wait import _find_wait

LENGTH = 50_000
"""Quadratic time would be minutes at this length; linear time is some milliseconds."""

UNITS = [
    *(
        "a",
        "@",
        ".",
        "-",
        " ",
        "(",
        "<",
        "[",
        "'",
        '"',
        ",",
        ";",
        "|",
        "%",
        "=",
        "0",
        "_",
        "?",
        ":",
    ),
    *("{", "\t", "\0", "\u00a0", "\u200b", "\u00fc", "a.", "a@", ".@", "<a", "(a@", "('", "a "),
    *('",', '""', "%40", "mailto:", "a@b.", "not ", "opt_", "mail", "1,", "1,123", "wait=", "xn--"),
]
AROUND = [("", ""), ("a@b.example (", ")"), ("'", "\x01")]


def a_row(text: str) -> bytes:
    """Return the text as one quoted cell."""
    return f'"{text.replace(chr(34), 2 * chr(34))}"'.encode(errors="replace")


def listed(content: bytes) -> object:
    """Read the content as a list of addresses."""
    return list(read_addresses(io.BytesIO(content)))


def imported(content: bytes) -> object:
    """Read the content as a contact CSV."""
    with open_contacts(io.BytesIO(content)) as contacts:
        return list(contacts.blocks())


READERS = {
    "an address": parse_address,
    "a local part in doubt": lambda text: find_correction(
        NormalizedAddress(f"{text}@b.example", text)
    ),
    "a domain in doubt": lambda text: find_correction(NormalizedAddress(f"a|b@{text}", text)),
    "an address in a field": parse_addresses,
    "a status": lambda text: [status_cells.parse_status(text, it) for it in ("status", "opted_in")],
    "a note": lambda text: status_cells.find_suppressing_cell(["unsub", text]),
    "a tag": status_cells.is_suppressing,
    "a header": lambda text: column_names.column_meaning(text, weak=True),
    "a header's sound": column_names.mentions_consent,
    "a field's name": field_names.field_meaning,
    "a weak field's name": field_names.is_weak_address_field,
    "a list's name": field_names.is_address_list,
    "a guarded cell": strip_formula_guard,
    "a quotation": quoted,
    "a broken line": lambda text: table._tidy(text, ","),
    "ids": lambda text: list(
        contact_id_files.read_contact_ids(io.BytesIO(text.encode(errors="replace")))
    ),
    "a list": lambda text: listed(a_row("a@b.example") + b"\n" + a_row(text)),
    "a list at first": lambda text: listed(text.encode(errors="replace")),
    "a list with a header": lambda text: listed(b"email\n" + a_row(text)),
    "an import": lambda text: imported(b"email,tags\n" + a_row(text) + b"," + a_row(text)),
    "an import's header": lambda text: imported(b"email," + a_row(text)),
    "a form": lambda text: list(parse_fields(text.encode(errors="replace"))),
    "a field of a form": lambda text: list(parse_fields(b"email=" + text.encode(errors="replace"))),
    "a content type": lambda text: list(parse_fields(b"a=b", f"text/plain; {text}")),
    "a boundary": lambda text: list(
        parse_fields(f"--{text}".encode(errors="replace"), f"multipart/form-data; boundary={text}")
    ),
    "a preference": _find_wait,
    "a log line": redact,
    "a hook's token": parse_hook_token,
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("reader", READERS)
def test_reading_time_is_linear(monkeypatch, reader):
    """Reading time is linear for texts that repeat a few characters between any
    prefix and suffix.
    """
    # The address patterns are linear themselves, although they never get such long texts.
    monkeypatch.setattr(addresses, "MAX_WRAPPED_LENGTH", 10 * LENGTH)
    for unit, (before, behind) in product(UNITS, AROUND):
        with suppress(InvalidAddress, InvalidRequest, status_cells.UnknownStatus):
            READERS[reader](f"{before}{unit * (LENGTH // len(unit))}{behind}")


@pytest.mark.timeout(120)
def test_an_object_of_a_list_may_have_many_texts():
    """Addresses of one object are deduplicated by hash, not compared one by one."""
    email = [f"{number:x}@b.ex" for number in range(25_000)]
    line = json.dumps({"email": email, "address": email[::-1]}).encode()
    (block,) = read_addresses(io.BytesIO(b'{"email":"a@b.example"}\n' + line))
    assert len(block.rows) == 1 + 2 * len(email)


class Counting:
    """Wraps a method of a pattern, and keeps the longest text passed to it."""

    def __init__(self, method) -> None:
        self.method = method
        self.longest = 0

    def __call__(self, text: str):
        """Record the length, and call the method."""
        self.longest = max(self.longest, len(text))
        return self.method(text)


def test_address_patterns_get_no_long_text(monkeypatch):
    """Text longer than any wrapped address is rejected before a pattern runs."""
    patterns = [Counting(each) for each in addresses._WRAPPINGS]
    monkeypatch.setattr(addresses, "_WRAPPINGS", patterns)
    validated = Counting(addresses._validate)
    monkeypatch.setattr(addresses, "_validate", validated)
    for unit, (before, behind) in product(UNITS, AROUND):
        for length in (MAX_WRAPPED_LENGTH - 20, MAX_WRAPPED_LENGTH + 1, 20 * MAX_WRAPPED_LENGTH):
            with suppress(InvalidAddress):
                parse_address(f"{before}{unit * (length // len(unit))}{behind}")
    assert max(each.longest for each in patterns) <= MAX_WRAPPED_LENGTH
    assert validated.longest <= MAX_ADDRESS_LENGTH


PLAIN_ADDRESS = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_+\-]|\.(?=[A-Za-z0-9_+\-]))*@(?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,}"
)


@given(st.text("ab1.@-+_ ,<ü", max_size=30))
@example("a@b.ab@b.ab")
@example("a..b@b.ab")
@example("<.-a@b.ab.@c.ab")
def test_the_addresses_in_a_text_equal_those_of_a_pattern(text):
    """A hint names what this pattern finds, but in linear time."""
    found = list(dict.fromkeys(PLAIN_ADDRESS.findall(text)))
    assert list(dict.fromkeys(addresses._addresses_in(text))) == found


@given(st.text("ab1.@<>()[]:;, \t\"'ü", max_size=25))
@example("mailto:a@b.example")
def test_wrapped_text_is_no_valid_address(text):
    """Text with wrapping is never valid, so it needs no validation before the
    wrapping is removed.
    """
    if addresses._has_wrapping_around(text):
        with pytest.raises(InvalidAddress):
            normalize_address(text)


@given(st.text("a@b .", max_size=12))
def test_each_part_of_a_field_has_one_at_sign(text):
    """The split equals that of this pattern, but in linear time."""
    assert list(_split_at_signs(text)) == re.findall(r"[^@]*@[^@ ]*", text)


@pytest.mark.parametrize("unit", [b"+", b"%20", b" ", b"\0", b"1,", b"[", b'""', b"a", b"\r\n"])
@pytest.mark.parametrize(
    "read",
    [
        lambda body: list(parse_fields(b"email=a%40b.example&x=" + body)),
        lambda body: list(parse_fields(body)),
        lambda body: list(contact_id_files.read_contact_ids(io.BytesIO(body))),
        lambda body: listed(b'a@b.example\n"a" b,"' + body + b"\n"),
    ],
    ids=["a field", "a form", "ids", "a broken row"],
)
def test_memory_is_a_small_multiple_of_the_length(read, unit):
    """A pattern that stores its backtracking positions would take a hundred times as much."""
    body = unit * (300_000 // len(unit))
    tracemalloc.start()
    try:
        with suppress(InvalidRequest):
            read(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(body)


def test_long_texts_are_not_cached():
    """A cache of external texts limits their length, not only their number."""
    asked = []

    @cache_short_texts(maxsize=10)
    def length(text: str, *, more: int = 0) -> int:
        asked.append(text)
        return len(text) + more

    short, long = "a" * MAX_CACHED_LENGTH, "a" * (MAX_CACHED_LENGTH + 1)
    assert [length(short), length(short), length(short, more=1)] == [200, 200, 201]
    assert [length(long), length(long)] == [201, 201]
    assert asked == [short, short, long, long]


CHARSETS = sorted(
    {name for each in pkgutil.iter_modules(encodings.__path__) if (name := find_charset(each.name))}
)


@pytest.mark.parametrize("charset", CHARSETS)
@settings(max_examples=example_count(40))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"\x1b$B", b"\x1b(J", b"\x1b$", b"\x1b", b"~{", b"~", b"\xff\xfe"]),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_any_bytes_in_any_charset_are_decoded_or_rejected(charset, parts, is_late):
    """A file is decoded, with invalid bytes as lone surrogates, or rejected with a reason. The same
    holds for a hook's message with a charset.
    """
    # Escapes split by the end of a block take another code path.
    content = b"a" * (1 << 12 if is_late else 0) + b"".join(parts)
    assert isinstance(decode_text(content, charset), str)
    with suppress(InvalidRequest):
        source = FileText(io.BytesIO(content), charset)
        assert all(isinstance(text, str) for text in iter(source.read, ""))


@given(st.recursive(st.text() | st.integers(), lambda each: st.dictionaries(st.text(), each)))
@example("\x7f\x9b31m\u202eevil\U000e0041\n\x1b]0;pwn\x07")
@example("Zoë ☑ 李")
def test_json_for_a_terminal_is_equivalent_and_printable(value):
    """The text has no character that controls a terminal, and letters stay readable."""
    text = json_text(value, indent=2)
    assert json.loads(text) == value
    assert all(c.isprintable() or c == "\n" for c in text)
    assert json_text("Zoë ☑ 李") == '"Zoë ☑ 李"'
