"""JSON from outside is read completely or rejected."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.json_input import (
    MAX_NAMES,
    MAX_VALUES,
    DuplicateName,
    InputTooLarge,
    Pairs,
    find_duplicate_name,
    is_deeper,
    read_json,
    read_pairs,
)
from tests.kit.property_examples import example_count

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
names = st.text(max_size=60)


@given(values)
def test_json_without_duplicate_names_is_read(value):
    """Without duplicate names, text and bytes are read as the standard library's
    parser reads them.
    """
    text = json.dumps(value)
    assert read_json(text) == read_json(text.encode()) == value
    assert find_duplicate_name(read_pairs(text)) is None


@given(names, values, values, st.lists(st.booleans(), max_size=5), values)
def test_a_duplicate_name_is_rejected_at_any_depth(name, one, other, around, sibling):
    """A duplicate name is rejected in objects nested in lists and objects, for any two values."""
    key = json.dumps(name)
    text = f"{{{key}: {json.dumps(one)}, {key}: {json.dumps(other)}}}"
    for in_list in around:
        text = f"[{json.dumps(sibling)}, {text}]" if in_list else f'{{"x": {text}}}'
    with pytest.raises(DuplicateName, match="twice in one object") as raised:
        read_json(text)
    assert (raised.value.name, find_duplicate_name(read_pairs(text))) == (name, name)


def test_escaped_names_are_compared_unescaped():
    """An escaped character equals the character itself."""
    with pytest.raises(DuplicateName, match=r"'address' twice"):
        read_json(r'{"address": 1, "\u0061ddress": 2}')


@pytest.mark.parametrize(
    "text",
    ["", "{", b"\xff", b"\xff\xfe", "[" * 100_000, '{"a": 1}{"a": 2}', "\ufeff1"],
)
def test_invalid_json_raises_one_kind_of_error(text):
    """Every invalid text, including JSON too deep for Python, raises the same kind of error."""
    for read in (read_json, read_pairs):
        with pytest.raises(ValueError) as raised:  # noqa: PT011 -- any text of the parser's
            read(text)
        assert not isinstance(raised.value, DuplicateName)


def test_pairs_keep_duplicates():
    """Pairs keep duplicates in order."""
    assert read_pairs('{"a": 1, "b": {}, "a": [2]}') == [("a", 1), ("b", Pairs()), ("a", [2])]


def test_too_many_values_are_rejected_before_parsing():
    """Values are counted before parsing, so the limit also holds for invalid JSON."""
    for part in ("1,", '"",', "[],", "{},", '{"a":', "[", '"x":1,', "nul,"):
        text = "[" + part * (MAX_VALUES + 1)
        for read in (read_json, read_pairs):
            for given_as in (text, text.encode()):
                with pytest.raises(InputTooLarge, match="300,000 values"):
                    read(given_as)
    # A list that is too long for a request is still read, so that the error can state its length.
    for number in (100_000, 250_000):
        assert len(read_json(json.dumps([""] * number))) == number


@settings(max_examples=example_count(8))
@given(
    st.lists(st.sampled_from([",", "[", "{", '"', "\\", "é", "\n", "]"]), min_size=1, max_size=6)
)
def test_the_content_of_strings_is_not_counted(parts):
    """Commas and brackets inside strings do not count as values."""
    content = "".join(parts) * (MAX_VALUES + 1)
    for text in (
        json.dumps({"a": content, "b": content}),
        json.dumps([content], ensure_ascii=False),
    ):
        for given_as in (text, text.encode(), text.encode("utf-16")):
            assert read_json(given_as) == json.loads(text)


@pytest.mark.parametrize("around", ["{}", '{{"params": {}}}', "[[{}]]"])
def test_the_names_of_an_object_are_limited(around):
    """The maximum of names holds at any depth. The messages of hooks have no such limit."""
    for number, is_read in ((MAX_NAMES, True), (MAX_NAMES + 1, False)):
        text = around.format(json.dumps({f"x{n}": n for n in range(number)}))
        read_pairs(text)
        if is_read:
            assert read_json(text) == json.loads(text)
        else:
            with pytest.raises(InputTooLarge, match="more than 1,000 names"):
                read_json(text)


@given(st.text("0123456789", max_size=20), st.integers(4_500, 9_000), st.sampled_from(["", "-"]))
def test_a_number_of_any_length_is_read(digits, length, sign):
    """A long number is read as a very large one, or as its digits if pairs are read."""
    text = f"{sign}1{digits:7<{length}}"
    assert (abs(read_json(text)), read_json(text) < 0) == (10**99, sign == "-")
    assert read_json(f'{{"a": [{text}, 7]}}')["a"][1] == 7
    assert read_pairs(f'{{"event_id": {text}}}') == [("event_id", text)]


@given(values, st.integers(0, 6))
def test_levels_are_counted(value, levels):
    """The result equals that of a simple recursive function."""

    def depth(part) -> int:
        parts = part.values() if isinstance(part, dict) else part
        return 1 + max(map(depth, parts), default=0) if isinstance(part, list | dict) else 0

    assert is_deeper(value, levels) == (depth(value) > levels)
