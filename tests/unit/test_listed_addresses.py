"""An address list names the same addresses as an import of the same file."""

import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.address_files import read_addresses
from producers.file_text import BLOCK_BYTES, MAX_LINE
from producers.import_file import open_contacts
from schemas.errors import InvalidRequest


def read(content: bytes, **options):
    """Return (line, match key) of the addresses, the same of doubtful ones, and the
    rejected lines.
    """
    rows, doubtful, refused = [], [], []
    for block in read_addresses(io.BytesIO(content), **options):
        rows += [(line, identity.match_key) for line, identity in block.rows]
        doubtful += [(each.line, each.correction.intended.address) for each in block.doubtful]
        refused += [rejection.line for rejection in block.rejections]
    return rows, doubtful, refused


def imported(content: bytes, **options):
    """Return (line, match key) of the addresses that an import reads."""
    with open_contacts(io.BytesIO(content), **options) as contacts:
        return [
            (row.line, identity.match_key)
            for block in contacts.blocks()
            for row in block.rows
            for identity in row.addresses
            if identity
        ]


ADDRESS_HEADERS = ["Email", "E-mail 2 Address", "Email (Work)", "Other Email", "EMAIL_ADDRESS_3"]
OTHER_HEADERS = [
    "First Name",
    "Name (last, first)",
    'The "name"; or nick',
    "Note\nof the caller",
    "Account | Manager",
    "Address",
]
others = st.one_of(
    st.text("ab@.,;|\t\"'\n\r éж", max_size=12),
    st.sampled_from(["write to kim@example.com", "4711|lee@example.com", "\nmax@example.com\n"]),
)
addresses = st.sampled_from(
    ["", "ann@example.com", "Bo+x@EXAMPLE.org", " cy@x.example ", "mailto:di@x.example"]
)


@given(
    headers=st.lists(
        st.sampled_from(ADDRESS_HEADERS + OTHER_HEADERS), min_size=1, max_size=6, unique=True
    ).filter(lambda headers: set(headers) & set(ADDRESS_HEADERS)),
    data=st.data(),
    delimiter=st.sampled_from(",;\t|"),
    separator_line=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
)
def test_a_list_has_the_addresses_of_an_import(
    headers, data, delimiter, separator_line, ending, encoding
):
    """The addresses are the same in every dialect and encoding, with any other columns."""
    rows = data.draw(
        st.lists(
            st.tuples(*(addresses if name in ADDRESS_HEADERS else others for name in headers)),
            max_size=5,
        )
    )
    text = io.StringIO(newline="")
    if separator_line:
        text.write(f"sep={delimiter}{ending}")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([headers, *rows])
    content = text.getvalue().encode(encoding)
    listed, doubtful, _ = read(content)
    assert doubtful == []
    expected = set(imported(content)) if len(headers) else set()
    overfull = [row for row in rows if len({cell.strip().casefold() for cell in row}) > 3]
    assert set(listed) >= expected
    assert overfull or set(listed) == expected
    column_keys = {
        cell.strip().removeprefix("mailto:").casefold()
        for row in rows
        for cell, name in zip(row, headers, strict=True)
        if name in ADDRESS_HEADERS and cell
    }
    assert {key for _, key in listed} == column_keys


@given(st.lists(st.text('ab@.,;|"\n\r \té\x00', max_size=20), max_size=8))
def test_any_text_under_a_header_has_the_addresses_of_an_import(lines):
    """A list reads at least the addresses that an import reads, even from a broken file."""
    content = ("Email,Note\n" + "\n".join(lines)).encode()
    assert set(imported(content)) <= set(read(content)[0])


@pytest.mark.parametrize(
    ("content", "rows", "refused"),
    [
        (b"a@x.example\r\n\r\nb@x.example", [(1, "a@x.example"), (3, "b@x.example")], []),
        (b"\xef\xbb\xbfa@x.example\n", [(1, "a@x.example")], []),
        (b"Name;Email\nAnn;A@x.example\n", [(2, "a@x.example")], []),
        (b'"a@x.example"\n"b@x.example"\n', [(1, "a@x.example"), (2, "b@x.example")], []),
        (
            b'{"address": "a@x.example"}\n{"email": "b@x.example"}\n{"x": 1}\n{]\n',
            [(1, "a@x.example"), (2, "b@x.example")],
            [3, 4],
        ),
        (
            b'{"emails": ["a@x.example", "b@x.example", 7], "owners": ["c@x.example"]}\n',
            [(1, "a@x.example"), (1, "b@x.example")],
            [],
        ),
        (b'{"email": "a@x.example", "email": "b@x.example"}\n', [], [1]),
        (b'{"email": "a@x.example", "address": "12 High St"}\n', [(1, "a@x.example")], []),
        (b'{"address": "a@x.example", "name": "J\xf6rg"}\n', [(1, "a@x.example")], []),
        (
            b"a@x.example,b@x.example,c@x.example\n",
            [(1, "a@x.example"), (1, "b@x.example"), (1, "c@x.example")],
            [],
        ),
        (
            b"a@x.example\nb@x.example; c@x.example\n",
            [(1, "a@x.example"), (2, "b@x.example"), (2, "c@x.example")],
            [],
        ),
        (b"Recipient,Name\na@x.example,Ada\n", [(2, "a@x.example")], []),
        (b"Subscriber Address\na@x.example\n", [(2, "a@x.example")], []),
        (b"Recipient,Email\nAda,a@x.example\n", [(2, "a@x.example")], []),
        (b"vic@x.example,Ada,agent@x.example\n", [], [1]),
        (b"Ada;a@x.example;2024-03-01\n", [(1, "a@x.example")], []),
        (b"a@x.example\t2024-03-01\tagent@x.example\n", [], [1]),
        (b"a@x.example,,b@x.example,\n", [(1, "a@x.example"), (1, "b@x.example")], []),
        (
            b"Name,Email,Email Address 2\nAnn,a@x.example,b@x.example\nBen,,c@x.example\nC,,\n",
            [(2, "a@x.example"), (2, "b@x.example"), (3, "c@x.example")],
            [4],
        ),
        (
            b"email;email\na@x.example;b@x.example\nno;c@x.example\n",
            [(2, "a@x.example"), (2, "b@x.example"), (3, "c@x.example")],
            [3],
        ),
        (
            b'{"address": "a@x.example", "Email2": "b@x.example", "name": "c@x.example"}\n',
            [(1, "a@x.example"), (1, "b@x.example")],
            [],
        ),
        (b"Address\na@x.example\n", [(2, "a@x.example")], []),
        (b"a@x.example,2024-01-01\n2024-01-01,no\n", [(1, "a@x.example")], [2]),
        (b"\n" * 20_000 + b"Email\n\na@x.example", [(20_003, "a@x.example")], []),
        (b"id,email\n1\n2,a@x.example\n3,\xff@x.example\n", [(3, "a@x.example")], [2, 4]),
        (b'a@x.example\nb"@x.example,"\n', [(1, "a@x.example")], [2]),
        # An undoubled quotation mark in a note: the address in the note did not opt out.
        (
            b'Email,Note\n"a@x.example","He said "no":\nk@x.example, or so\nend"\nb@x.example,ok\n',
            [(5, "b@x.example")],
            [2],
        ),
        # An extra cell shifts the following ones: the manager is not opted out.
        (b"Note,Manager,Email\na, b,m@x.example,a@x.example\n", [], [2]),
        (
            b'Email,Note\na@x.example,"a" ,\nb@x.example, "b" \n',
            [(2, "a@x.example"), (3, "b@x.example")],
            [],
        ),
        (b"email\na@x.example,b@x.example\n", [], [2]),
        (b"email\na@x.example;b@x.example\n", [], [2]),
        (b"Email,Note\na@x.example," + b"n" * 20_000 + b"\n", [(2, "a@x.example")], []),
        (b"Email,Note\na@x.example,a\x00b\n", [(2, "a@x.example")], []),
    ],
)
def test_lists_are_read_in_common_formats(content, rows, refused):
    """Plain lines, CSV and JSON objects are read; other lines are rejected by number."""
    found, _, rejections = read(content)
    assert (found, rejections) == (rows, refused)


@pytest.mark.parametrize(
    "text",
    [
        "mailto:ada@x.example",
        "<ada@x.example>",
        "Ada <ada@x.example>",
        '"Byron; Ada" <ada@x.example>',
        "ada@x.example <mailto:ada@x.example>",
        "ada@x.example.",
        "ada@x.example;",
        "\u200bada@x.example\ufeff",
        "\u00a0ada@x.example\u00a0",
        "'ada@x.example'",
    ],
)
def test_text_around_an_address_is_removed(text):
    """Lists and imports remove wrapping that cannot be part of an address."""
    content = "\n".join(["Email\tName", f"{text}\tn"]).encode()
    if '"' not in text:
        assert read(content) == ([(2, "ada@x.example")], [], [])
        assert imported(content) == [(2, "ada@x.example")]
    assert read(f"{text}\n".encode())[0] == [(1, "ada@x.example")]


@pytest.mark.parametrize(
    "text",
    [
        "4711|ada@x.example",
        "'ada@x.example",
        "=ada@x.example",
        "email=ada@x.example",
        "%20ada@x.example",
        "%3Cada@x.example",
        "\u2019ada@x.example",
        "*ada@x.example",
        "+ada@x.example",
    ],
)
def test_valid_but_implausible_addresses_are_doubtful(text):
    """A valid but implausible address is doubtful: the account decides which address is meant."""
    assert read(f"Email,Name\n{text},n\n".encode()) == ([], [(2, "ada@x.example")], [])


@pytest.mark.parametrize("text", ["o'brien@x.example", "ada+news@x.example", "a_b-c@x.example"])
def test_common_characters_of_addresses_are_not_doubtful(text):
    """Apostrophes, tags and hyphens cause no doubt."""
    assert read(f"{text}\n".encode()) == ([(1, text)], [], [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Name,Phone\nAnn,1\n", "names no column"),
        (b"Manager Email\nm@x.example\n", "names no column"),
        (b"Contacts\nEmail\na@x.example\n", "Remove a title above the header"),
        (b'["a@x.example", "b@x.example"]', "a JSON array"),
        (b'[\n  {"email": "a@x.example"}\n]\n', "a JSON array"),
        (b"PK\x03\x04", "a spreadsheet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a spreadsheet"),
        (b"Email," + b"x," * 20_000 + b"\n", "columns; the limit is"),
    ],
)
def test_a_file_that_cannot_be_a_list_is_rejected(content, says):
    """The file is rejected as a whole, with advice."""
    with pytest.raises(InvalidRequest, match=says):
        read(content)


def test_a_named_encoding_is_read():
    """An address in cp1252 is read only if the encoding is named."""
    content = "Name,Email\nJörg,jörg@x.example\n".encode("cp1252")
    assert read(content) == ([], [], [2])
    assert read(content, encoding="cp1252")[0] == [(2, "jörg@x.example")]
    with pytest.raises(InvalidRequest, match="not supported"):
        read(content, encoding="klingon")


def test_memory_is_bounded():
    """A line of forty megabytes without an end is one rejection; the next line is read."""

    class Endless(io.RawIOBase):
        def __init__(self):
            self._blocks = iter([b"Email,Note\n", *[b"x" * BLOCK_BYTES] * 160, b"\na@x.example,\n"])

        def read(self, _size: int = -1) -> bytes:
            return next(self._blocks, b"")

    tracemalloc.start()
    try:
        blocks = list(read_addresses(Endless()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [line for block in blocks for line, _ in block.rows] == [3]
    assert [rejection.line for block in blocks for rejection in block.rejections] == [2]
    assert peak < 16 * MAX_LINE


CASES = Path(__file__).parents[1] / "files"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("quoted-header.csv", [(2, "p40@many.example.com")]),
        ("pipe-list.txt", [(1, "p1@many.example.com"), (2, "p2@many.example.com")]),
        ("multiline-reason.csv", [(2, "carla@example.com")]),
        ("list-cp1252-name.csv", [(2, "p80@many.example.com"), (3, "p81@many.example.com")]),
        (
            "list-cr.txt",
            [(1, "hal@example.com"), (2, "ian@example.com"), (3, "joe@example.com")],
        ),
        (
            "list-delimiter-in-quotes.txt",
            [(1, "p110@many.example.com"), (2, "p111@many.example.com")],
        ),
        ("mailchimp-address.csv", [(2, "p42@many.example.com")]),
        ("import-space-quote.csv", [(2, "spq1@example.com"), (3, "spq2@example.com")]),
    ],
)
def test_lists_that_once_failed(name, rows):
    """Each of these lists, which once failed, opts out its addresses without a rejection."""
    assert read((CASES / name).read_bytes()) == (rows, [], [])
