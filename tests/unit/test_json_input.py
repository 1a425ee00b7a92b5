"""JSON from outside: what it says is read whole, or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.json_input import Pairs, RepeatedName, read_json, read_pairs, repeated_name

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
names = st.text(max_size=60)


@given(values)
def test_what_has_each_name_once_is_read_as_it_is(value):
    """As by the parser of the standard library, from text or bytes."""
    text = json.dumps(value)
    assert read_json(text) == read_json(text.encode()) == value
    assert repeated_name(read_pairs(text)) is None


@given(names, values, values, st.lists(st.booleans(), max_size=5), values)
def test_a_name_that_is_there_twice_is_refused_at_any_depth(name, one, other, around, beside):
    """In an object within lists and objects, whatever the two values are."""
    key = json.dumps(name)
    text = f"{{{key}: {json.dumps(one)}, {key}: {json.dumps(other)}}}"
    for in_list in around:
        text = f"[{json.dumps(beside)}, {text}]" if in_list else f'{{"x": {text}}}'
    with pytest.raises(RepeatedName, match="twice in one object") as raised:
        read_json(text)
    assert (raised.value.name, repeated_name(read_pairs(text))) == (name, name)


def test_names_that_are_written_differently_are_one():
    """An escape stands for a character."""
    with pytest.raises(RepeatedName, match=r"'address' twice"):
        read_json(r'{"address": 1, "\u0061ddress": 2}')


@pytest.mark.parametrize(
    "text",
    ["", "{", b"\xff", b"\xff\xfe", "[" * 100_000, '{"a": 1}{"a": 2}', "\ufeff1"],
)
def test_what_is_no_json_is_one_kind_of_error(text):
    """Too deep for Python, or no text at all."""
    for read in (read_json, read_pairs):
        with pytest.raises(ValueError) as raised:  # noqa: PT011 -- any text of the parser's
            read(text)
        assert not isinstance(raised.value, RepeatedName)


def test_pairs_keep_what_is_repeated():
    """In its order."""
    assert read_pairs('{"a": 1, "b": {}, "a": [2]}') == [("a", 1), ("b", Pairs()), ("a", [2])]
