"""An import reads each row of a contact CSV as a contact or as a rejection."""

import csv
import io
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producers.file_text import BLOCK_BYTES, MAX_CELL, MAX_LINE
from producers.import_file import open_contacts
from schemas.addresses import normalize_address
from schemas.errors import InvalidRequest
from schemas.staging import (
    CELL_REJECTION_REASONS,
    ImportRejection,
    ImportRejectionReason,
    ImportRow,
)

KEAP = ["First Name", "Last Name", "Company", "Email", "Email Address 2", "Email Address 3", "Tags"]
HEADER = ",".join(KEAP) + "\n"


def read(data: bytes | str, **options) -> tuple[list[ImportRow], list[ImportRejection]]:
    """Read a contact CSV to its end; return its rows and rejections."""
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    with open_contacts(stream, **options) as contacts:
        found = read_all(contacts)
        assert contacts.text.bytes_read == len(stream.getvalue())
    return found


def read_all(contacts) -> tuple[list[ImportRow], list[ImportRejection]]:
    """Collect the rows and rejections of all blocks."""
    rows, rejections = [], []
    for block in contacts.blocks():
        rows += block.rows
        rejections += block.rejections
    return rows, rejections


def reasons(rejections: Iterable[ImportRejection]) -> list[tuple[int, str]]:
    """Return line and reason of each rejection."""
    return [(rejection.line, rejection.reason.value) for rejection in rejections]


def addresses(row: ImportRow) -> list[str | None]:
    """Return the row's addresses as given, by field."""
    return [identity and identity.address for identity in row.addresses]


# Text that a cell may contain: quotes, delimiters and line breaks, without surrounding space.
texts = st.text("abé文\"',;|\t\n\r -", max_size=12).map(str.strip)
given_addresses = st.one_of(
    st.just(""), st.sampled_from(["ann@example.com", "Bo+x@EXAMPLE.org", "jörg@bücher.example.net"])
)
tag_lists = st.lists(st.text('abé"|\t -', min_size=1).map(str.strip).filter(bool), unique=True)
contacts = st.tuples(
    texts,
    texts,
    texts,
    st.tuples(given_addresses, given_addresses, given_addresses).filter(any),
    tag_lists,
)


@given(
    st.lists(contacts, max_size=8),
    st.permutations(KEAP),
    st.sampled_from(",;\t|"),
    # This Python version's writer quotes line breaks only if they are in its own line ending.
    st.sampled_from(
        [
            ("\r\n", csv.QUOTE_MINIMAL),
            ("\n", csv.QUOTE_ALL),
            ("\r\n", csv.QUOTE_ALL),
            ("\r", csv.QUOTE_ALL),
        ]
    ),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_what_was_written_is_read(written, header, delimiter, style, encoding) -> None:
    """In every dialect, with columns in any order, each contact is read as it was written."""
    file = io.StringIO(newline="")
    ending, quoting = style
    writer = csv.writer(file, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow(header)
    lines = []
    for given_name, family_name, company, emails, tags in written:
        lines.append(file.getvalue().replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1)
        cells = dict(
            zip(KEAP, [given_name, family_name, company, *emails, ", ".join(tags)], strict=True)
        )
        writer.writerow(cells[name] for name in header)
    rows, rejections = read(file.getvalue().encode(encoding))
    assert {rejection.reason for rejection in rejections} <= {ImportRejectionReason.REPEATED_IN_ROW}
    assert [row.line for row in rows] == lines
    for row, (given_name, family_name, company, emails, tags) in zip(rows, written, strict=True):
        assert (row.given_name or "", row.family_name or "", row.company or "") == (
            given_name,
            family_name,
            company,
        )
        assert row.tags == tuple(tags)
        expected = [
            None if not email or email in emails[:field] else normalize_address(email)
            for field, email in enumerate(emails)
        ]
        assert list(row.addresses) == expected


@given(st.lists(st.text('ab@.,;"\n\r \x00é\ud800', max_size=30), max_size=12))
@example(['"', "a@b.de,,,,,,", '"'])
def test_any_text_is_read_to_its_end(lines) -> None:
    """Any text after the header is read to its end in order, and the results can be stored."""
    data = (HEADER + "\n".join(lines)).encode("utf-8", "surrogatepass")
    rows, rejections = read(data)
    numbers = sorted([row.line for row in rows] + [rejection.line for rejection in rejections])
    assert len({row.line for row in rows}) == len(rows)
    assert all(1 < number <= len(data.splitlines()) for number in numbers)
    for rejection in rejections:
        rejection.detail.encode()
        assert "\x00" not in rejection.detail
        assert len(rejection.detail) < 600


good_rows = st.sampled_from(
    [
        "Ann,Lee,,ann@example.com,,,",
        '"Bo","","","bo@example.com","","","x, y"',
        ",,,c@example.com,,,",
    ]
)
bad_rows = st.sampled_from(
    [
        ",,,,,,",
        "Ann,Lee,,,,,news",
        "Ann,Lee,,nobody,,,",
        "Ann,Lee,,ann@example.com,ANN@example.com,,",
        "Ann,Lee",
        "Ann,Lee,,ann@example.com,,,,extra",
        '"Ann" Lee,,,ann@example.com,,,',
        "Ann\x00,Lee,,ann@example.com,,,",
        f"{'n' * (MAX_CELL + 1)},Lee,,ann@example.com,,,",
        '12" pipes,Lee,,nobody,,,',
        '12" pipes',
    ]
)


@given(st.lists(st.one_of(good_rows, bad_rows), max_size=12))
def test_every_row_is_imported_or_rejected(lines) -> None:
    """Each row of one line is a contact, or has one rejection of the whole row."""
    rows, rejections = read(HEADER + "".join(f"{line}\n" for line in lines))
    numbers = [row.line for row in rows]
    numbers += [
        rejection.line for rejection in rejections if rejection.reason not in CELL_REJECTION_REASONS
    ]
    assert sorted(numbers) == list(range(2, len(lines) + 2))


@pytest.mark.parametrize(
    ("row", "reason", "says"),
    [
        ("Ann,Lee,Co,,,,news", "no_address", '"Ann, Lee, Co, , , , news"'),
        ("Ann,Lee,Co,ann@example.com", "too_few_cells", "4 of the header's 7 cells"),
        ("Ann,Lee,Co,a@example.com,,,,x", "too_many_cells", '"x" is one too many'),
        ("Ann\x00,Lee,Co,a@example.com,,,", "nul_byte", "NUL"),
        ('"Ann" Lee,,,a@example.com,,,', "broken_quotes", "Double"),
        ("Ann,Lee,Co,a@example.com,,," + "t" * 10_001, "cell_too_large", "10,000"),
        ("Ann,Lee,Co,a@example.com,,," + "t" * 200_000, "cell_too_large", "10,000"),
        ('Ann,Lee,Co,a@example.com,,,"' + "t\n" * 5_001 + '"', "cell_too_large", "10,000"),
        ('Ann,Lee,Co,a@example.com,,,"' + "t\n" * 200_000 + '"', "cell_too_large", "10,000"),
    ],
)
def test_rejected_rows(row: str, reason: str, says: str) -> None:
    """An invalid row is rejected with its line and a reason; the rows around it are imported."""
    before, after = "Ann,,,before@example.com,,,\n", "Ann,,,after@example.com,,,\n"
    rows, rejections = read(f"{HEADER}{before}{row}\n{after}")
    assert [addresses(row)[0] for row in rows] == ["before@example.com", "after@example.com"]
    assert reasons(rejections) == [(3, reason)]
    assert says in rejections[0].detail
    assert rows[1].line == 4 + row.count("\n")


def test_rows_of_another_encoding() -> None:
    """Rows with Latin-1 bytes are rejected with advice. If the encoding is named, they are read."""
    data = (HEADER + "José,,,jose@example.com,,,\nAnn,,,ann@example.com,,,\n").encode("latin-1")
    rows, rejections = read(data)
    assert [row.line for row in rows] == [3]
    assert reasons(rejections) == [(2, "not_text")]
    assert "from Excel that is often cp1252" in rejections[0].detail
    assert "--" not in rejections[0].detail
    rows, rejections = read(data, encoding="cp1252")
    assert ([row.given_name for row in rows], rejections) == (["José", "Ann"], [])


def test_an_invalid_cell_does_not_reject_the_contact() -> None:
    """A contact is imported with its valid addresses, and rejected if it has none."""
    rows, rejections = read(
        HEADER + "A,,,nobody,ann@example.com,'ann@example.com,\nB,,,nobody,,,\n"
    )
    assert [addresses(row) for row in rows] == [[None, "ann@example.com", None]]
    assert reasons(rejections) == [
        (2, "invalid_address"),
        (2, "invalid_address"),
        (3, "invalid_address"),
        (3, "no_address"),
    ]
    assert '"nobody" is not an email address: An email address must have an @-sign.' in (
        rejections[0].detail
    )


def test_an_address_repeated_in_its_row_counts_once() -> None:
    """The later field stays empty, even if the case differs."""
    rows, rejections = read(HEADER + "A,,,ann@example.com,ANN@Example.COM,bo@example.com,\n")
    assert addresses(rows[0]) == ["ann@example.com", None, "bo@example.com"]
    assert reasons(rejections) == [(2, "repeated_in_row")]
    assert "counts once" in rejections[0].detail


def test_a_tag_that_is_too_long_does_not_reject_the_contact() -> None:
    """Tags are split at commas or semicolons and stored once each; invalid ones are left out."""
    rows, rejections = read(f'{HEADER}A,,,a@example.com,,,"x; y, x,,{"t" * 201}"\n')
    assert rows[0].tags == ("x", "y")
    assert reasons(rejections) == [(2, "tag_too_long")]


def test_a_quote_that_is_never_closed_rejects_only_its_row() -> None:
    """The rows inside the unclosed quotes are read; the rejection names the line of the quote."""
    good = "".join(f"Ann,,,ann{n}@example.com,,,\n" for n in range(5_000))
    rows, rejections = read(f'{HEADER}{good}"Bo,,,bo@example.com,,,\n{good}')
    assert len(rows) == 10_000
    assert rows[5_000].line == 5_003
    assert reasons(rejections) == [(5_002, "broken_quotes")]
    assert '"Bo,,,bo@example.com' in rejections[0].detail


def test_a_quote_that_closes_rows_later_rejects_only_its_row() -> None:
    """Two stray quotation marks, lines apart, do not merge the rows between them
    into one contact.
    """
    rows, rejections = read(
        f'{HEADER}Ann,"Lee,,a@example.com,,,\nBo,,,b@example.com,,,\nCy,,,c@example.com,,,x"\n'
        "Di,,,d@example.com,,,\n"
    )
    assert [row.line for row in rows] == [3, 4, 5]
    assert reasons(rejections) == [(2, "broken_quotes")]


def test_cells_of_several_lines() -> None:
    """Quoted line breaks belong to their cell; a row's line number is that of its first line."""
    rows, rejections = read(
        f'{HEADER}"Ann\r\nMarie",,"A\rB\nC",a@example.com,,,\r\n\r\n\n   \nBo,,,b@example.com,,,'
    )
    assert [(row.line, row.given_name, row.company) for row in rows] == [
        (2, "Ann\r\nMarie", "A\rB\nC"),
        (9, "Bo", None),
    ]
    assert rejections == []


def test_empty_cells_beyond_the_header_are_ignored() -> None:
    """Trailing delimiters of a spreadsheet are ignored in the header and in rows."""
    rows, rejections = read(
        "Email,Tags,,\na@example.com,x,,\nb@example.com,y\nc@example.com,z,,,,,\n"
    )
    assert [row.tags for row in rows] == [("x",), ("y",), ("z",)]
    assert rejections == []


@pytest.mark.parametrize(
    ("header", "options", "found"),
    [
        ("EMAIL", {}, ["a", None, None]),
        ("  email 1 ,E-mail 2,EMAIL_ADDRESS_3", {}, ["a", "b", "c"]),
        ("E-Mail Address 2;Surname;E-Mail", {}, ["c", "a", None]),
        ('"Email";"Email 2"', {}, ["a", "b", None]),
        ('"Notes, old";Email', {}, ["b", None, None]),
        ("Email\tName|Nickname", {}, ["a", None, None]),
        ("Work,Home", {"mapping": {"home": "email1", " WORK ": "email3"}}, ["b", None, "a"]),
        ("Email,E-mail", {"mapping": {"Email": "email2"}}, ["b", "a", None]),
        ("Email,E-mail", {}, ["a", "b", None]),
        ("Email,EMAIL ", {}, ["a", "b", None]),
        ("Email,Home", {"mapping": {"Home": "email1"}}, ["b", "a", None]),
        ("Email (Work),Email,Other Email", {}, ["b", "a", "c"]),
        ("E-mail Address,E-mail 2 Address,E-mail 3 Address", {}, ["a", "b", "c"]),
        ("Work Email,Personal Email", {}, ["a", "b", None]),
        ("Email Address 3,Email Address 3", {}, ["b", None, "a"]),
        ("Email,E-mail", {"mapping": {"Email": "ignore"}}, ["b", None, None]),
    ],
)
def test_headers(header: str, options, found) -> None:
    """Headers are matched without case, space and punctuation; a mapping takes precedence."""
    delimiter = next((d for d in "\t;|" if d in header), ",")
    cells = delimiter.join(
        f"{letter}@example.com" for letter in "abc"[: header.count(delimiter) + 1]
    )
    rows, rejections = read(f"{header}\n{cells}\n", **options)
    assert rejections == []
    assert addresses(rows[0]) == [letter and f"{letter}@example.com" for letter in found]


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"", {}, "empty"),
        (b"\xef\xbb\xbf", {}, "empty"),
        (b"\n\r\n  \n", {}, "empty"),
        (
            b"Name,Phone\nAnn,1\n",
            {},
            'the header, or map the right column, for example --map "Name',
        ),
        (b"ann@example.com\nbo@example.com\n", {}, '"ann@example.com"'),
        (b"Email,Name,name\n", {"mapping": {"name": "company"}}, "two columns named"),
        (
            b"Email,First Name,Forename\n",
            {},
            'Two columns mean given_name: "First Name", "Forename"',
        ),
        (
            b"Email,Work,Home\n",
            {"mapping": {"Home": "email1", "Work": "email1"}},
            'Two columns mean email1: "Work", "Home"',
        ),
        (b"Email," * 20_000 + b"\n", {}, "20,000 columns; the limit is 2,000"),
        (b"Email,Email Source\n", {}, '--map "Email Source=ignore"'),
        (b"Email,Manager Email,Opt,Notes\n", {}, '"Manager Email", "Opt". Nothing'),
        (b"Email\n", {"mapping": {"Work": "email2"}}, 'Its columns are "Email"'),
        (b"Email\n", {"mapping": {"Email": "phone"}}, "unknown field"),
        (b"Email\n", {"mapping": {"Email": "ignore"}}, "no column of email addresses"),
        (b"Email\x00\n", {}, "NUL"),
        (b"Email,Pr\xe9nom\n", {}, "often cp1252"),
        (b"Email\n", {"encoding": "klingon"}, "not supported"),
        (b"Email\n", {"encoding": "rot13"}, "not supported"),
        (b"Email\n", {"encoding": "a\x00"}, "not supported"),
        ("Email\n".encode("cp037"), {"encoding": "cp037"}, "not supported"),
        (b"PK\x03\x04....", {}, "spreadsheet"),
        (b'[{"email": "a@x.example"}]', {}, "a JSON array"),
        (b'Email,"Name\n' * 99, {}, "quotation mark"),
        (b"Email" * MAX_LINE, {}, "no column of email addresses"),
    ],
)
def test_a_file_that_cannot_be_an_import_is_rejected(data: bytes, options, says: str) -> None:
    """A file that cannot be an import is rejected before its rows, with advice."""
    with pytest.raises(InvalidRequest, match="othing was stored") as refused:
        read(data, **options)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 600


def test_files_that_cannot_be_read(tmp_path) -> None:
    """A folder and a missing file are named in an error, without a traceback."""
    for path in (tmp_path, tmp_path / "missing.csv", str(tmp_path / "nul\x00")):
        with (
            pytest.raises(InvalidRequest, match=r"cannot be read: .*Nothing was stored"),
            open_contacts(path),
        ):
            pass


def test_a_file_by_its_path(tmp_path) -> None:
    """A path and an open file give the same rows and the same digest."""
    path = tmp_path / "people.csv"
    path.write_text(HEADER + "A,,,a@example.com,,,\n")
    with open_contacts(path) as by_path, open_contacts(io.BytesIO(path.read_bytes())) as by_stream:
        assert read_all(by_path) == read_all(by_stream)
        assert by_path.text.digest() == by_stream.text.digest()


def test_a_read_error_rejects_the_file() -> None:
    """A read error in the middle of the file is reported with the number of bytes read."""

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(min(size, 80))

    with (
        pytest.raises(
            InvalidRequest, match=r"after 80 bytes: Input/output error\. Nothing was stored"
        ),
        open_contacts(Failing(HEADER.encode() * 9)) as contacts,
    ):
        read_all(contacts)


class Endless(io.RawIOBase):
    """A header followed by the same bytes many times, with something before and after."""

    def __init__(self, first: bytes, block: bytes, last: bytes) -> None:
        self._blocks = iter([HEADER.encode() + first, *[block] * 160, last])

    def read(self, _size: int = -1) -> bytes:
        """Return the next block, regardless of the size."""
        return next(self._blocks, b"")


NEXT = b"Ann,,,ann@example.com,,,\n"
LINES = (b"x" * 999 + b"\n") * (BLOCK_BYTES // 1000)


@pytest.mark.parametrize(
    ("first", "block", "last", "imported"),
    [
        (b"", b"x" * BLOCK_BYTES, b"\n" + NEXT, 1),
        (b"", b"x" * BLOCK_BYTES, b"\r" + NEXT, 1),
        (b"", b"x" * BLOCK_BYTES, b"\r\n" + NEXT, 1),
        (b"", b"x" * BLOCK_BYTES, b"", 0),
        (b"", b"," * BLOCK_BYTES, b"\n" + NEXT, 1),
        (b"", b'"' * (BLOCK_BYTES - 1) + b"x", b"\n" + NEXT, 1),
        (b'"', b"x" * BLOCK_BYTES, b'\nx",,,bo@example.com,,,\n' + NEXT, 1),
        (b'"', LINES, b'",,,bo@example.com,,,\n' + NEXT, 1),
        (b'"', LINES.replace(b"\n", b'\n","'), b'"\n' + NEXT, 1),
    ],
    ids=["lf", "cr", "crlf", "no-end", "commas", "quotes", "open", "lines", "cells-of-lines"],
)
def test_a_row_without_end_needs_little_memory(
    first: bytes, block: bytes, last: bytes, imported: int
) -> None:
    """A row of forty megabytes without an end is one rejection; the next row is read."""
    tracemalloc.start()
    try:
        with open_contacts(Endless(first, block, last)) as contacts:
            rows, rejections = read_all(contacts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(rows) == imported
    assert reasons(rejections) == [(2, "cell_too_large")]
    assert peak < 16_000_000


@pytest.mark.parametrize("cut", range(1, 12))
def test_blocks_may_end_anywhere(cut: int) -> None:
    """The split into blocks makes no difference, even within CRLF or a character."""
    data = (HEADER.replace("\n", "\r\n") + 'Zoë,"a\r\nb",,a@example.com,,,\r\n' * 3).encode()

    class Dripping(io.BytesIO):
        def read(self, _size=-1):
            return super().read(cut)

    with open_contacts(Dripping(data)) as contacts:
        assert read_all(contacts) == read(data)


def test_each_reason_has_a_meaning() -> None:
    """Reports can explain every rejection reason."""
    assert all(reason.meaning for reason in ImportRejectionReason)
