"""No list in CSV runs a formula in the spreadsheet that opens it, and each can be read back."""

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

BEGINNINGS = "=+-@\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
BLANK = '" \t\r\n\v\f\x01\xa0\u200b\u3000\ufeff'
UNSEEN = "\xad\u061c\u180e\u2066\u206f\u2800\u3164\ufe0f\ufff9\U0001d173\U000e0001\U000e01ef"

texts = st.lists(
    st.sampled_from([*BEGINNINGS, *BLANK, *UNSEEN, *"';,|a1", "cmd|' /C calc'!A0"])
    | st.characters(codec="utf-8", exclude_characters="\0"),
    max_size=9,
).map("".join)


def runs(cell: str) -> bool:
    """Whether a spreadsheet may take the cell for a formula, whatever blanks it passes over."""
    return cell.strip(BLANK + UNSEEN)[:1] in set(BEGINNINGS)


@hypothesis_settings(
    max_examples=example_count(60), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(found=st.lists(texts, min_size=1, max_size=40))
@example(
    found=["\r\n=1+1", "a;=1+1", "a\n=1+1", 'x;"=1+1', "'=1", "''=1", "'\t=1", "o'neil", "\r\t"]
)
async def test_no_cell_begins_like_a_formula(pool, found):
    """Whatever a program divides cells at, comma, semicolon or tab; and our reader has each text
    back as it was.
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
    for text, cell, (as_it_is,) in zip(found, cells, raw, strict=True):
        line = f"7,email1,{cell},applied\n"
        for delimiter in ",;\t":
            rows = csv.reader(io.StringIO(line, newline=""), delimiter=delimiter)
            assert not any(runs(each) for row in rows for each in row), (text, delimiter)
        (read,) = csv.reader(io.StringIO(cell, newline="")) if cell else [[""]]
        assert read[0][:1] not in {"\t", "\r", "\n"}
        assert strip_formula_guard(read[0]) == text
        assert next(csv.reader(io.StringIO(as_it_is, newline="")), [""]) == [text]


FORMULAS = ["=cmd@x.example", "+tag@x.example", "-a@x.example", "'+tag@x.example", "b@x.example"]
GUARDED = ["'=cmd@x.example", "'+tag@x.example", "'-a@x.example", "''+tag@x.example", "b@x.example"]


async def test_each_list_is_safe_unless_it_is_asked_for_raw(pool):
    """Addresses, errors and refusals, of results as of what was not worked."""
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
        safe = await collected(pool, listing, form=ExportFormat.CSV)
        raw = await collected(pool, listing, form=ExportFormat.RAW_CSV)
        assert raw == [
            ["" if row[name] is None else str(row[name]) for name in listing.columns]
            for row in await collected(pool, listing)
        ]
        assert any(runs(cell) for row in raw for cell in row)
        assert not any(runs(cell) for row in safe for cell in row)
        assert len(safe) == len(raw)
    assert safe == [["2", "invalid_address", "'=1;'=2"]]


@pytest.mark.parametrize("header", ["email\n", ""])
def test_our_reader_takes_the_apostrophe_away(header):
    """A list that was exported names the same addresses when it comes back."""
    text = header + "".join(f"{cell}\n" for cell in reversed(GUARDED))
    found = [
        identity.address
        for block in read_addresses(io.BytesIO(text.encode()))
        for identity in (
            *(row[1] for row in block.rows),
            *(each.identity for each in block.doubtful),
        )
    ]
    assert sorted(found) == sorted(FORMULAS)


@given(text=st.from_regex(r"[-a-z'+=]{1,9}@x\.example", fullmatch=True))
def test_without_a_formula_nothing_is_taken_away(text):
    """An apostrophe before a letter is part of the address, or a mistake that is told."""
    try:
        normalize_address(text)
    except InvalidAddress:
        return
    bare = text.lstrip("'")
    guarded = text != bare and bare[0] in BEGINNINGS
    assert strip_formula_guard(text) == (text[1:] if guarded else text)


async def test_raw_is_asked_for_over_http(http, key_of, pool, settings):
    """By a parameter; a value that is neither yes nor no is refused."""
    key = await key_of()
    listed = {"action": "opt_out", "selection": {"addresses": ["+tag@x.example"]}}
    job = (await http.post("/v1/jobs", headers=key, json=listed)).json()["id"]
    await InProcessRunner(pool, settings, chunk_size=3, parallel=1).work(job)
    path = f"/v1/jobs/{job}/results?format=csv"
    assert ",'+tag@x.example," in (await http.get(path, headers=key)).text
    assert ",+tag@x.example," in (await http.get(f"{path}&raw=true", headers=key)).text
    problem_detail(await http.get(f"{path}&raw=perhaps", headers=key), 422, "invalid")
