"""Tables and sentences fit the terminal without being cut."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cli.layout import UNLIMITED_WIDTH, Cell, Column, pair, table, wrap_text
from cli.rendering import format_age

WIDTHS = st.integers(20, 120)
WORDS = st.text(st.characters(categories=("L", "N"), include_characters="@.-_é漢"), min_size=1)
ADDRESSES = st.builds("{}@{}.example".format, WORDS, WORDS)
TEXTS = st.lists(WORDS | ADDRESSES, max_size=8).map(" ".join)
CELLS = st.builds(Cell, TEXTS) | st.builds(
    Cell, st.integers(0, 10**9).map(str), is_unbreakable=st.just(True), right=st.just(True)
)
TABLES = st.integers(1, 7).flatmap(
    lambda count: st.tuples(
        st.lists(st.builds(Column, st.just("head"), st.booleans()), min_size=count, max_size=count),
        st.lists(st.lists(CELLS, min_size=count, max_size=count), max_size=4),
    )
)


def without_blanks(text: str) -> list[str]:
    """Return the text's characters without white space, which wrapping may move."""
    return sorted("".join(text.split()))


@given(TEXTS, WIDTHS)
def test_a_sentence_fits_the_width_and_is_complete(text: str, width: int) -> None:
    """Words stay in order, and only words longer than a line are broken."""
    lines = wrap_text(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for word in text.split():
        assert cell_len(word) > width or any(word in line for line in lines)


@given(TEXTS, WIDTHS)
def test_a_command_is_never_broken(text: str, width: int) -> None:
    """A command can be copied even if it is longer than a line."""
    command = f"`sluice {text.strip()}`"
    assert any(command in line for line in wrap_text(f"Try {command} now.", width, commands=True))


@given(TABLES, WIDTHS)
def test_a_table_fits_the_width_and_is_complete(given_: tuple, width: int) -> None:
    """Every cell appears in its column or below its row, except in columns that may be dropped. An
    address that fits on one line is not broken.
    """
    columns, rows = given_
    laid = table(columns, rows, width)
    assert all(cell_len(line) <= width for line in (laid.heading, *laid.lines))
    if laid.omitted:
        return
    below = sum(line.split(" ")[0:3] == ["", "", "head"] for line in laid.lines)
    text = "".join(laid.lines)
    shown = without_blanks(text)
    cells = without_blanks("".join(cell.text for row in rows for cell in row))
    assert len(shown) - len(cells) == below * len("head")
    for row in rows:
        for cell in row:
            for word in cell.text.split():
                if "@" in word and cell_len(word) <= width:
                    assert any(word in line for line in laid.lines)


@given(TABLES)
def test_without_a_terminal_each_row_is_a_line(given_: tuple) -> None:
    """Output for grep and files has one line per row; nothing is broken, moved or dropped."""
    columns, rows = given_
    laid = table(columns, rows, UNLIMITED_WIDTH)
    assert (len(laid.lines), laid.omitted) == (len(rows), [])


@given(WORDS, TEXTS, st.integers(0, 20), WIDTHS)
def test_a_name_and_its_value_fit_the_width(name: str, text: str, names: int, width: int) -> None:
    """Names and values of any length stay within the width."""
    name = name[: width // 2 // 2]
    lines = pair(name, text, max(names, cell_len(name)), width)
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=-5), "0 s ago"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(seconds=200), "3 min ago"),
        (timedelta(minutes=59), "59 min ago"),
        (timedelta(hours=47), "47 h ago"),
        (timedelta(days=59), "59 d ago"),
        (timedelta(days=60), "2029-11-02"),
    ],
)
def test_an_age_is_rounded_to_its_largest_unit(age: timedelta, text: str) -> None:
    """An age is rounded to its largest unit; for distant times the date is shown."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert format_age(now - age, now).text == text
