"""The sample list depends on its seed, has the requested size and covers every special case."""

import csv
import io
import tracemalloc
from collections import Counter, defaultdict

import pytest

from producers.import_file import open_contacts
from producers.sample_list import HEADER, UNSUBSCRIBED, write_sample_list
from schemas.addresses import InvalidAddress, normalize_address
from schemas.staging import ImportRow


def text(contacts: int, seed: int = 1) -> str:
    """Return a sample list as text; equal seeds give equal lists."""
    file = io.StringIO(newline="")
    assert write_sample_list(file, contacts=contacts, seed=seed) == contacts
    return file.getvalue()


@pytest.fixture(scope="module")
def listed_rows() -> list[list[str]]:
    """Return the cells of ten thousand rows."""
    header, *rows = csv.reader(io.StringIO(text(10_000), newline=""))
    assert tuple(header) == HEADER
    return rows


@pytest.fixture(scope="module")
def staged() -> tuple[list[ImportRow], Counter[str]]:
    """Return the importer's result for ten thousand rows."""
    with open_contacts(io.BytesIO(text(10_000).encode())) as contacts:
        blocks = list(contacts.blocks())
    rows = [row for block in blocks for row in block.rows]
    return rows, Counter(
        rejection.reason.value for block in blocks for rejection in block.rejections
    )


def holders(rows: list[ImportRow]) -> dict[str, set[int]]:
    """Return the lines on which each address occurs."""
    lines_by_address = defaultdict(set)
    for row in rows:
        for identity in row.addresses:
            if identity:
                lines_by_address[identity.match_key].add(row.line)
    return lines_by_address


def test_a_seed_decides_every_byte() -> None:
    """A demo can be repeated with the same seed; another seed gives another list."""
    assert text(500) == text(500)
    assert text(500) != text(500, seed=2)


@pytest.mark.parametrize("contacts", [0, 1, 2_000, 2_001])
def test_the_list_has_the_requested_number_of_rows(contacts) -> None:
    """Malformed rows count; the header does not."""
    assert len(text(contacts).splitlines()) == contacts + 1


def test_most_rows_can_be_imported(staged) -> None:
    """A few rows are rejected for different reasons, and the rest are stored."""
    rows, rejections = staged
    assert 9_900 < len(rows) < 10_000
    assert set(rejections) == {
        "no_address",
        "invalid_address",
        "repeated_in_row",
        "too_few_cells",
        "too_many_cells",
    }


def test_most_have_one_address_many_two_and_a_few_three(staged) -> None:
    """Opting out one field can so propagate to others."""
    rows, _ = staged
    counts = Counter(sum(map(bool, row.addresses)) for row in rows)
    assert counts[1] > counts[2] > 5 * counts[3] > 100
    assert counts[1] > 0.55 * len(rows)


def test_addresses_are_shared_by_few_some_and_many(staged) -> None:
    """Families of two to four, offices of two to ten, and agencies of far more than
    ten share one.
    """
    sizes = {key: len(lines) for key, lines in holders(staged[0]).items()}
    families = [size for key, size in sizes.items() if key.startswith("family.")]
    agencies = [size for key, size in sizes.items() if "@agency." in key]
    offices = [
        size
        for key, size in sizes.items()
        if key.startswith(("info@", "sales@", "office@")) and "@agency." not in key
    ]
    assert {2, 3, 4} <= set(families)
    assert len({size for size in offices if 2 <= size <= 10}) == 9
    assert min(agencies) > 20


def test_contacts_are_repeated_unchanged_and_in_upper_case(listed_rows) -> None:
    """Duplicates occur unchanged and in upper case."""
    listed = Counter(tuple(row) for row in listed_rows if len(row) == len(HEADER) and row[3])
    assert sum(count > 1 for count in listed.values()) > 50
    emails = {row[3] for row in listed_rows if len(row) == len(HEADER)}
    twins = {address for address in emails if address.isupper()}
    assert len({address.casefold() for address in emails} & {a.casefold() for a in twins}) > 50


def test_names_and_domains_are_not_only_ascii(listed_rows) -> None:
    """There are accents in names, an international domain, tags, and quotes in company names."""
    cells = [cell for row in listed_rows for cell in row]
    assert "Zoë" in cells
    assert any("@bücherpost.example.net" in cell for cell in cells)
    assert any("+news" in cell for cell in cells)
    assert any('"Blue Door"' in cell for cell in cells)


def test_some_unsubscribed_at_the_old_provider(staged) -> None:
    """About three percent are opted out, some of them with a second address."""
    rows, _ = staged
    opted_out = [row for row in rows if UNSUBSCRIBED in row.tags]
    assert 0.02 < len(opted_out) / len(rows) < 0.04
    assert any(row.addresses[1] for row in opted_out)


def test_no_address_can_reach_anyone(listed_rows) -> None:
    """Every domain is reserved for documentation."""
    for row in listed_rows:
        for cell in row[3:6]:
            try:
                domain = normalize_address(cell).match_key.rpartition("@")[2]
            except InvalidAddress:
                continue
            assert domain.split(".")[-2:] in (
                ["example", "com"],
                ["example", "net"],
                ["example", "org"],
            )


def test_memory_does_not_grow_with_the_list() -> None:
    """Fifty thousand rows are four megabytes of text, but need only a few megabytes of memory."""

    class Nowhere(io.TextIOBase):
        def write(self, written: str) -> int:
            return len(written)

    tracemalloc.start()
    try:
        write_sample_list(Nowhere(), contacts=50_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
