"""Files of contact ids give the same ids in order in every format, in bounded blocks."""

import io
import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from producers import contact_id_files, file_text
from producers.contact_id_files import read_contact_ids
from schemas.errors import InvalidRequest
from schemas.requests import MAX_ID


def ids_in(data):
    """Return all ids in the file."""
    return [id_ for block in read_contact_ids(io.BytesIO(data)) for id_ in block]


def in_form(form, ids):
    """Write the ids in one of the accepted formats."""
    separator = {",": ",", ", ": ", "}.get(form, "\n")
    written = {
        "ndjson": lambda id_: json.dumps({"contact_id": id_, "name": "x, y"}),
        "id": lambda id_: json.dumps({"id": id_}),
        "quoted": lambda id_: f'"{id_}"',
        "windows": lambda id_: f"{id_}\r",
    }.get(form, str)
    return separator.join(map(written, ids))


def may_be_one_number(ids):
    """Return whether the ids joined by commas could be one number with thousands separators."""
    return len(ids) > 1 and 0 <= ids[0] < 1_000 and all(100 <= id_ < 1_000 for id_ in ids[1:])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.integers(-MAX_ID - 1, MAX_ID), max_size=60),
    form=st.sampled_from(["plain", ",", ", ", "ndjson", "id", "quoted", "windows"]),
    header=st.sampled_from(["", "contact_id\n", "ID\r\n", '"id"\n', "\ufeff", "\ufeffid\n"]),
    ending=st.sampled_from(["", "\n", "\n\n", ","]),
    piece=st.integers(1, 200),
)
def test_every_format_gives_the_ids_in_order(read_at_once, ids, form, header, ending, piece):
    """Every format gives the ids in order, however the file is split into blocks."""
    read_at_once(piece)
    ending = "\n" if form in {"ndjson", "id"} else ending
    assume(form != "," or not may_be_one_number(ids))
    assert ids_in((header + in_form(form, ids) + ending).encode()) == ids


@pytest.fixture
def read_at_once():
    """Return a function that sets the block size for one example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_text, "FIRST_BLOCK_BYTES", 64)
        yield lambda size: patch.setattr(file_text, "BLOCK_BYTES", size)


@pytest.mark.parametrize("piece", [1, 3, 1 << 18])
@pytest.mark.parametrize(
    ("text", "line_no", "message"),
    [
        ('"1,234"', 1, "'1,234' is not a contact id"),
        ('7\n"1,234"\n', 2, "'1,234' is not a contact id"),
        ("1,234,\n", 1, "1,234 may be one number"),
        ("1,234", 1, "1,234 may be one number or several ids"),
        ("7\r\n12,345,678 \r\n", 2, "12,345,678 may be one number"),
        ("contact_id\n7,8\n101,102\n", 3, "101,102 may be one number"),
        ("1.5", 1, "'1.5' is not"),
        ("42.0", 1, "'42.0' is not"),
        ("1\n1e3\n", 2, "'1e3' is not"),
        ("+5\n", 1, "'\\+5' is not"),
        ("0x1", 1, "'0x1' is not"),
        ("1_000\n", 1, "'1_000' is not"),
        ("contact_id,name\n7,Ann\n,Bo\n", 3, "'' is not"),
        ("name;id\nAnn;7\nBo;42.0\n", 3, "'42.0' is not"),
        ('{"id": 1, "id": 2}\n', 1, "'id' twice"),
        ("1\n2\nx\n4", 3, "'x' is not a contact id"),
        ("1\nid\n", 2, "'id' is not a contact id"),
        ("1\n\n12 34\n", 3, "'12 34' is not"),
        ("1,2\n3,a@x.example\n", 2, "'a@x.example' is not"),
        ("1\n99999999999999999999\n", 2, "outside the range"),
        ('{"id": 1}\n{"id": "2"}\n', 2, "no whole number"),
        ('{"id": 1}\n{"id": true}\n', 2, "no whole number"),
        ('{"id": 1}\n{"id": 2, "contact_id": 2}\n', 2, "no whole number"),
        ('{"id": 1}\n{"id": 2\n', 2, "not a JSON object"),
        ('{"id": 1}\n{"id": 99999999999999999999}\n', 2, "outside the range"),
        ("1\n\xff\n", 2, "is not a contact id"),
    ],
)
def test_an_invalid_line_is_reported_by_number(monkeypatch, piece, text, line_no, message):
    """An invalid line is reported by its number, in whichever block it is."""
    monkeypatch.setattr(file_text, "BLOCK_BYTES", piece)
    with pytest.raises(InvalidRequest, match=rf"^Line {line_no} of the contacts: .*{message}"):
        ids_in(text.encode("latin-1"))


def test_an_endless_line_is_rejected(monkeypatch):
    """An endless line is rejected before it fills the memory."""
    monkeypatch.setattr(contact_id_files, "_LONGEST_LINE", 100)
    monkeypatch.setattr(file_text, "FIRST_BLOCK_BYTES", 10)
    monkeypatch.setattr(file_text, "BLOCK_BYTES", 10)
    with pytest.raises(InvalidRequest, match="Line 2 of the contacts: it is longer"):
        ids_in(b"1\n" + b"2" * 1000)
    assert ids_in(b"1\n" + b"2," * 1000) == [1, *[2] * 1000]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('Name,Contact Id,Phone\n"Byron, Ada",7,1\nBen,8,2\n', [7, 8]),
        ("Id;Email;Contact Id\n99;a@x.example;7\n", [7]),
        ("sep=;\r\nid;name\r\n7;Ann\r\n", [7]),
        ("1\r2\r3", [1, 2, 3]),
        ("1;2\n3;4\n", [1, 2, 3, 4]),
        ("1\t2\n\n3\n", [1, 2, 3]),
        ("7\n\n8\n", [7, 8]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_files_of_other_dialects(text, ids, encoding):
    """Files with extra columns and other delimiters, line ends or encodings give
    the same contacts.
    """
    assert ids_in(text.encode(encoding)) == ids


def test_other_columns_are_ignored():
    """Invalid bytes in another column do not matter."""
    assert ids_in("id,name\n7,J\xf6rg\n".encode("latin-1")) == [7]


@pytest.mark.parametrize("text", ['""\n1,234\n0', '"1"x;2\n3;4', '"1;2\n3;4'])
def test_a_first_line_that_cannot_be_cut_is_rejected(text):
    """A file of several columns is rejected as a whole if no delimiter can cut its first line."""
    with pytest.raises(InvalidRequest, match=r"first line cannot be cut|Line 1 of the contacts"):
        ids_in(text.encode())


def test_two_columns_of_ids_are_rejected():
    """Of two id columns, neither is chosen by guessing."""
    with pytest.raises(InvalidRequest, match="more than one column of ids: Id, External Id"):
        ids_in(b"Id,External Id\n1,2\n")
