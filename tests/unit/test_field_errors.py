"""Validation errors are sentences of our own, wherever pydantic finds them."""

import json
from collections.abc import Callable
from typing import Annotated, Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import core_schema

from producers.hook_events import InvalidEvent, read_events
from producers.invalid_request import parse_request
from schemas.errors import InvalidRequest, SluiceError, error_text
from schemas.field_errors import describe_error, describe_path, to_sentence
from tests.kit.wording import find_wording_faults
from web.job_requests import JobCreate
from web.request_body import parse_json
from web.routes.opt_outs import OptOutRequest
from web.routes.plans import ApplyRequest

KINDS = get_args(core_schema.ErrorType)
CONTEXT: dict[str, Any] = {
    **dict.fromkeys(("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length"), 3),
    **dict.fromkeys(("actual_length", "max_digits", "decimal_places", "whole_digits"), 3),
    **dict.fromkeys(("expected", "expected_tags", "expected_schemes"), "'a', 'b' or 'c'"),
    "expected_version": 4,
    "pattern": "^a+$",
    "error": ValueError("it is not so"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_type_has_our_own_sentence(kind: str) -> None:
    """Every pydantic error type, known or unknown, is reported without pydantic's own text."""
    error = {"type": kind, "loc": ("a",), "msg": "Input should be odd", "ctx": CONTEXT}
    for value in ({}, "x", 17):
        sentence = describe_error({**error, "input": value})
        assert find_wording_faults(sentence) == []
        assert sentence[0].isupper()
        assert "odd" not in sentence


def test_an_unknown_or_incomplete_error_is_reported() -> None:
    """An error type that a later pydantic adds, or one without context, is still reported in our
    words.
    """
    for kind in ("of_the_future", "greater_than", "value_error"):
        sentence = describe_error(
            {"type": kind, "loc": (), "msg": "Input should be so", "input": []}
        )
        assert sentence == "This value is not accepted."


class Odd(BaseModel):
    """A model with fields that models of the project or of other actions may have."""

    several: Annotated[list[int], Field(min_length=1, max_length=2)]
    word: Annotated[str, Field(min_length=2, max_length=5, pattern="^[a-z]+$")]
    number: Annotated[int, Field(gt=0, le=1_000_000, multiple_of=2)]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"several": []}, "Give 1 entry or more."),
        ({"several": [1, 2, 3]}, "Give 2 entries at most."),
        ({"several": ["x"]}, "Give a whole number (given: 'x')."),
        ({"several": 1}, "Give a list (given: 1)."),
        ({"word": "a"}, "Give 2 characters or more (given: 'a')."),
        ({"word": "aaaaaa"}, "Give 5 characters at most (given: 'aaaaaa')."),
        ({"word": "AA"}, "Give text of the form ^[a-z]+$ (given: 'AA')."),
        ({"number": 0}, "Give more than 0 (given: 0)."),
        ({"number": 2_000_000}, "Give 1,000,000 or less (given: 2000000)."),
        ({"number": 3}, "Give a multiple of 2 (given: 3)."),
        ({"number": ""}, "It is empty. Give a whole number, or leave it out."),
        ({"number": None}, "Give a whole number."),
        ({}, "It is required, and missing."),
    ],
)
def test_a_sentence_states_the_limit_and_the_value(values: dict[str, Any], sentence: str) -> None:
    """The sentence states the limit in readable form, and the given value."""
    valid = {"several": [1], "word": "abc", "number": 2}
    (name,) = values or {"word": None}
    whole = {**{key: value for key, value in valid.items() if key != name}, **values}
    with pytest.raises(ValidationError) as raised:
        Odd.model_validate(whole)
    assert describe_error(raised.value.errors()[0]) == sentence


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("all", ""),
        ("fields.0", "the first of `fields`"),
        ("selection.contacts.10", "the 11th of `selection.contacts`"),
        ("selection.contacts.21", "the 22nd of `selection.contacts`"),
        ("events.3.address", "`address` of the fourth of `events`"),
        ("0.address", "`address` of the first of the list"),
        ("a.0.b.12.c", "`c` of the 13th of `b` of the first of `a`"),
        ("params.months", "`params.months`"),
        ("x." + 5_000 * "9", f"`x.{39 * '9'}…`"),
    ],
)
def test_list_positions_are_counted_from_one(path: str, sentence: str) -> None:
    """List positions are counted from 1."""
    assert describe_path(path) == sentence


@given(st.text(max_size=20))
def test_a_sentence_ends_with_one_period(text: str) -> None:
    """Every sentence ends with exactly one period, however it was raised."""
    sentence = to_sentence(text)
    assert sentence[-1] in ".?!"
    assert not sentence.endswith("..")
    assert not error_text(text + ".").endswith(".")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
MODELS: tuple[type[BaseModel], ...] = (JobCreate, OptOutRequest, ApplyRequest)


def likely(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Return a strategy for bodies with the model's field names and any values."""
    names = st.sampled_from([*model.model_fields, *getattr(_selection(), "model_fields", {})])
    inner = st.dictionaries(names, JSON, max_size=4) | JSON
    return st.dictionaries(st.sampled_from([*model.model_fields, "odd"]), inner, max_size=6)


def refusal(work: Callable[[], object]) -> SluiceError | None:
    """Return the error that the callable raises on purpose, if it does."""
    try:
        work()
    except SluiceError as error:
        return error
    return None


def _selection() -> type[BaseModel] | None:
    return JobCreate.model_fields["selection"].annotation


@given(st.data(), st.sampled_from(MODELS))
def test_errors_of_a_body_have_none_of_pydantics_text(data: st.DataObject, model: Any) -> None:
    """For any JSON body, errors are in our words and keep their field path for programs."""
    body = data.draw(JSON | likely(model))
    error = refusal(lambda: parse_json(json.dumps(body), model, "The request"))
    assert error is None or find_wording_faults(str(error)) == []
    for field_error in error.field_errors if isinstance(error, InvalidRequest) else ():
        assert find_wording_faults(field_error.message) == []
        assert field_error.location


@given(JSON | likely(OptOutRequest) | st.lists(likely(OptOutRequest), max_size=3))
@example([{"address": 1}, {"event_id": ""}])
@example([{}] * 101)
def test_errors_of_an_event_have_none_of_pydantics_text(value: Any) -> None:
    """Errors of hook events contain none of pydantic's text."""
    body = json.dumps(value).encode()
    error = refusal(lambda: read_events(body))
    assert error is None or find_wording_faults(str(error)) == []
    if error is None:
        sentence = [event.error for event in read_events(body) if isinstance(event, InvalidEvent)]
        assert [fault for text in sentence for fault in find_wording_faults(text)] == []


@given(likely(JobCreate) | st.dictionaries(st.text(max_size=6), JSON))
@example({"fields": ["email1", "email4"], "action": "opt_out", "selection": {"all": True}})
def test_errors_of_python_calls_have_none_of_pydantics_text(values: dict[str, Any]) -> None:
    """Errors of Python calls in the same installation contain none of pydantic's text."""
    error = refusal(lambda: parse_request(values))
    assert error is None or find_wording_faults(str(error)) == []


def test_pydantics_text_is_found() -> None:
    """The search for pydantic's text finds an example of it."""
    for text in (
        "List should have at most 16 items after validation, not 17.",
        "fields.0: wrong.",
        "It was refused.. Nothing.",
        "No stop",
    ):
        assert find_wording_faults(text)
