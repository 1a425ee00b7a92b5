"""Lists of contact ids in files: whatever their form, the ids in their order, in bounded blocks."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers import contact_ids
from producers.contact_ids import blocks_of_ids
from schemas.errors import WrongInput
from schemas.requests import MAX_ID


def ids_in(data):
    return [id_ for block in blocks_of_ids(io.BytesIO(data)) for id_ in block]


def in_form(form, ids):
    separator = {",": ",", ", ": ", "}.get(form, "\n")
    written = {
        "ndjson": lambda id_: json.dumps({"contact_id": id_, "name": "x, y"}),
        "id": lambda id_: json.dumps({"id": id_}),
        "quoted": lambda id_: f'"{id_}"',
        "windows": lambda id_: f"{id_}\r",
    }.get(form, str)
    return separator.join(map(written, ids))


@given(
    ids=st.lists(st.integers(-MAX_ID - 1, MAX_ID), max_size=60),
    form=st.sampled_from(["plain", ",", ", ", "ndjson", "id", "quoted", "windows"]),
    header=st.sampled_from(["", "contact_id\n", "ID\r\n", '"id"\n', "\ufeff", "\ufeffid\n"]),
    ending=st.sampled_from(["", "\n", "\n\n", ","]),
    piece=st.integers(1, 200),
)
def test_every_form_gives_the_ids_in_their_order(read_at_once, ids, form, header, ending, piece):
    """However the file falls into pieces."""
    read_at_once(piece)
    ending = "\n" if form in {"ndjson", "id"} else ending
    assert ids_in((header + in_form(form, ids) + ending).encode()) == ids


@pytest.fixture(scope="module")
def read_at_once():
    """Sets how much is read at once, for one example after the other."""
    patch = pytest.MonkeyPatch()
    yield lambda size: patch.setattr(contact_ids, "_BYTES_AT_ONCE", size)
    patch.undo()


@pytest.mark.parametrize("piece", [1, 3, 1 << 18])
@pytest.mark.parametrize(
    ("text", "line_no", "said"),
    [
        ("1\n2\nx\n4", 3, "'x' is not a contact id"),
        ("1\nid\n", 2, "'id' is not a contact id"),
        ("1\n\n12 34\n", 3, "'12 34' is not"),
        ("1,2\n3,a@x.example\n", 2, "'a@x.example' is not"),
        ("1\n99999999999999999999\n", 2, "too large"),
        ('{"id": 1}\n{"id": "2"}\n', 2, "no whole number"),
        ('{"id": 1}\n{"id": true}\n', 2, "no whole number"),
        ('{"id": 1}\n{"id": 2, "contact_id": 2}\n', 2, "no whole number"),
        ('{"id": 1}\n{"id": 2\n', 2, "no JSON object"),
        ('{"id": 1}\n{"id": 99999999999999999999}\n', 2, "too large"),
        ("1\n\xff\n", 2, "is not a contact id"),
    ],
)
def test_a_wrong_line_is_named(monkeypatch, piece, text, line_no, said):
    """By its number in the file, whichever piece it is in."""
    monkeypatch.setattr(contact_ids, "_BYTES_AT_ONCE", piece)
    with pytest.raises(WrongInput, match=rf"^Line {line_no} of the contacts: .*{said}"):
        ids_in(text.encode("latin-1"))


def test_a_line_without_end_is_refused(monkeypatch):
    """What is no list of ids does not fill the memory."""
    monkeypatch.setattr(contact_ids, "_LONGEST_LINE", 100)
    monkeypatch.setattr(contact_ids, "_BYTES_AT_ONCE", 10)
    with pytest.raises(WrongInput, match="Line 2 of the contacts: it is longer"):
        ids_in(b"1\n" + b"2" * 1000)
    assert ids_in(b"1\n" + b"2," * 1000) == [1, *[2] * 1000]
