"""An exported CSV runs no formula in a spreadsheet, and our reader restores each text."""

import csv
import io

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from db import exports
from db.exports import ExportFormat
from producers.address_files import read_addresses
from producers.formula_guard import strip_formula_guard
from schemas.addresses import InvalidAddress, normalize_address
from schemas.job_key import JobKey
from tests.integration.test_exports_and_history import collected, write_ledger
from tests.kit.in_process import InProcessRunner
from tests.kit.property_examples import example_count
from tests.kit.recipients import problem_detail

FORMULA_STARTS = "=+-@\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
BLANK = '" \t\r\n\v\f\x01\xa0\u200b\u3000\ufeff'
INVISIBLE = "\xad\u061c\u180e\u2066\u206f\u2800\u3164\ufe0f\ufff9\U0001d173\U000e0001\U000e01ef"

texts = st.lists(
    st.sampled_from([*FORMULA_STARTS, *BLANK, *INVISIBLE, *"';,|a1", "cmd|' /C calc'!A0"])
    | st.characters(codec="utf-8", exclude_characters="\0"),
    max_size=9,
).map("".join)


def is_formula(cell: str) -> bool:
    """Return whether a spreadsheet may treat the cell as a formula, whatever blanks it skips."""
    return cell.strip(BLANK + INVISIBLE)[:1] in set(FORMULA_STARTS)


@hypothesis_settings(
    max_examples=example_count(60), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(found=st.lists(texts, min_size=1, max_size=40))
@example(
    found=["\r\n=1+1", "a;=1+1", "a\n=1+1", 'x;"=1+1', "'=1", "''=1", "'\t=1", "o'neil", "\r\t"]
)
async def test_no_cell_starts_a_formula(pool, found):
    """No cell starts a formula, whether a program splits lines at commas, semicolons or tabs. Our
    reader restores each text.
    """
    cells = [
        value
        for (value,) in await pool.fetch(
            "select csv_cell(t, raw => false) from unnest($1::text[]) with ordinality u (t, n)"
            " order by n",
            found,
        )
    ]
    raw = await pool.fetch(
        "select csv_cell(t, raw => true) from unnest($1::text[]) with ordinality u (t, n)"
        " order by n",
        found,
    )
    for text, cell, (raw_cell,) in zip(found, cells, raw, strict=True):
        line = f"7,email1,{cell},applied\n"
        for delimiter in ",;\t":
            rows = csv.reader(io.StringIO(line, newline=""), delimiter=delimiter)
            assert not any(is_formula(each) for row in rows for each in row), (text, delimiter)
        (read,) = csv.reader(io.StringIO(cell, newline="")) if cell else [[""]]
        assert read[0][:1] not in {"\t", "\r", "\n"}
        assert strip_formula_guard(read[0]) == text
        assert next(csv.reader(io.StringIO(raw_cell, newline="")), [""]) == [text]


FORMULAS = ["=cmd@x.example", "+tag@x.example", "-a@x.example", "'+tag@x.example", "b@x.example"]
GUARDED = ["'=cmd@x.example", "'+tag@x.example", "'-a@x.example", "''+tag@x.example", "b@x.example"]


async def test_each_export_is_guarded_unless_it_is_raw(pool):
    """Results, unprocessed addresses and import rejections are guarded unless they are exported
    raw.
    """
    ledger = await write_ledger(pool, 20)
    for number, address in enumerate(FORMULAS, start=1):
        await pool.execute("update email_addresses set address = $2 where id = $1", number, address)
    await pool.execute("update job_chunks set error = '@SUM(1)' where chunk_no = 1")
    await pool.executemany(
        "insert into job_addresses (account_id, job_id, line, address, match_key)"
        " values ($1, $2, $3, $4, $4)",
        [(ledger.account_id, ledger.job, line, address) for line, address in enumerate(FORMULAS)],
    )
    await pool.execute(
        "insert into import_rejections values ($1, $2, 2, 'invalid_address', '=1;=2')",
        *(ledger.account_id, ledger.job),
    )
    for listing in (
        exports.export_results(JobKey(ledger.account_id, ledger.job)),
        exports.export_unprocessed_addresses(JobKey(ledger.account_id, ledger.job)),
        exports.export_import_rejections(JobKey(ledger.account_id, ledger.job)),
    ):
        guarded = await collected(pool, listing, form=ExportFormat.CSV)
        raw = await collected(pool, listing, form=ExportFormat.RAW_CSV)
        assert raw == [
            ["" if row[name] is None else str(row[name]) for name in listing.columns]
            for row in await collected(pool, listing)
        ]
        assert any(is_formula(cell) for row in raw for cell in row)
        assert not any(is_formula(cell) for row in guarded for cell in row)
        assert len(guarded) == len(raw)
    assert guarded == [["2", "invalid_address", "'=1;'=2"]]


@pytest.mark.parametrize("header", ["email\n", ""])
def test_our_reader_removes_the_apostrophe(header):
    """An exported list names the same addresses when it is read again."""
    text = header + "".join(f"{cell}\n" for cell in reversed(GUARDED))
    found = [
        identity.address
        for block in read_addresses(io.BytesIO(text.encode()))
        for identity in (
            *(row[1] for row in block.rows),
            *(each.normalized for each in block.doubtful),
        )
    ]
    assert sorted(found) == sorted(FORMULAS)


@given(text=st.from_regex(r"[-a-z'+=]{1,9}@x\.example", fullmatch=True))
def test_an_apostrophe_without_a_formula_is_kept(text):
    """An apostrophe before a letter belongs to the address, or the address is invalid."""
    try:
        normalize_address(text)
    except InvalidAddress:
        return
    bare = text.lstrip("'")
    guarded = text != bare and bare[0] in FORMULA_STARTS
    assert strip_formula_guard(text) == (text[1:] if guarded else text)


async def test_raw_exports_over_http(http, key_of, pool, settings):
    """`raw=true` turns the guard off; a value that is not a boolean is rejected."""
    key = await key_of()
    listed = {"action": "opt_out", "selection": {"addresses": ["+tag@x.example"]}}
    job = (await http.post("/v1/jobs", headers=key, json=listed)).json()["id"]
    await InProcessRunner(pool, settings, chunk_size=3, parallel=1).work(job)
    path = f"/v1/jobs/{job}/results?format=csv"
    assert ",'+tag@x.example," in (await http.get(path, headers=key)).text
    assert ",+tag@x.example," in (await http.get(f"{path}&raw=true", headers=key)).text
    problem_detail(await http.get(f"{path}&raw=perhaps", headers=key), 422, "invalid")
