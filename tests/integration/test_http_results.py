"""Results over HTTP: the same rows in every format, and no connection in use after a disconnect."""

import asyncio
import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from db import exports
from tests.kit.factories import fill
from tests.kit.in_process import InProcessRunner
from tests.kit.property_examples import example_count
from tests.kit.recipients import problem_detail
from tests.kit.submitting import EVIDENCE
from tests.kit.waiting import wait_until_async
from web.pagination import encode_cursor

UNUSUAL_ADDRESSES = [
    '"a,b"@x.example',
    '"say \\"hi\\""@x.example',
    "ünï@x.example",
    "plain@x.example",
]


@pytest.fixture
async def key(key_of):
    """Create a key of the default account with all scopes; return its headers."""
    return await key_of()


@pytest.fixture
async def job(pool, http, key, settings):
    """Run an opt-in of thirty contacts, some of whom opted out, with all kinds of addresses; return
    its id.
    """
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    addresses = [
        UNUSUAL_ADDRESSES[n] if n < len(UNUSUAL_ADDRESSES) else f"a{n}@x.example" for n in range(30)
    ]
    statuses = ("non_marketable", "manual", "confirmed")
    await fill(
        pool,
        account_id,
        {n + 1: {1: address} for n, address in enumerate(addresses)},
        {address: (statuses[n % 3], False) for n, address in enumerate(addresses)},
    )
    body = {"action": "opt_in", "selection": {"all": True}, "evidence": EVIDENCE}
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()["id"]
    await InProcessRunner(pool, settings, chunk_size=7, parallel=1).work(job)
    return job


async def get_all_pages(http, key, path, member, **params):
    """Return all rows of a list, page by page."""
    rows, cursor = [], {}
    while cursor is not None:
        answer = await http.get(path, headers=key, params={**params, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        rows += page[member]
        cursor = page["next"] and {"cursor": page["next"]}
    return rows


def as_cells(rows, columns):
    """Return the JSON rows as the cells of a CSV with these columns."""
    return [["" if row[name] is None else str(row[name]) for name in columns] for row in rows]


@hypothesis_settings(
    max_examples=example_count(15), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    limit=st.integers(1, 40),
    page=st.integers(1, 40),
    max_scanned=st.integers(1, 40),
    params=st.fixed_dictionaries(
        {},
        optional={
            "outcome": st.sampled_from(["applied", "unchanged", "rejected"]),
            "reason": st.sampled_from(["opted_out_by_recipient", "no_such_reason"]),
            "cause": st.sampled_from(["direct", "propagated"]),
        },
    ),
)
async def test_every_format_has_the_same_rows(
    pool, http, key, job, monkeypatch, limit, page, max_scanned, params
):
    """Pages, CSV and NDJSON have the requested rows, each once, in the same order."""
    monkeypatch.setattr(exports, "ROWS_PER_PAGE", page)
    monkeypatch.setattr(exports, "MAX_SCANNED_ROWS", max_scanned)
    path = f"/v1/jobs/{job}/results"
    rows = await get_all_pages(http, key, path, "results", limit=limit, **params)
    ndjson = await http.get(path, headers=key, params={**params, "format": "ndjson"})
    assert [json.loads(line) for line in ndjson.text.split("\n") if line] == rows
    in_csv = await http.get(path, headers={**key, "Accept": "text/csv"}, params=params)
    assert list(csv.reader(io.StringIO(in_csv.text, newline=""))) == [
        list(exports.CSV_COLUMNS),
        *as_cells(rows, exports.CSV_COLUMNS),
    ]
    expected = await pool.fetch(
        "select r.contact_id, a.address from results r"
        " join email_addresses a on a.id = r.address_id where job_id = $1"
        " and ($2::text is null or outcome::text = $2)"
        " and ($3::text is null or reason = $3) and ($4::text is null or cause::text = $4)"
        " order by contact_id",
        job,
        *(params.get(name) for name in ("outcome", "reason", "cause")),
    )
    assert [(row["contact_id"], row["address"]) for row in rows] == [tuple(r) for r in expected]


async def test_unprocessed_items_are_listed(http, key, pool):
    """Unprocessed contacts are listed by id and listed addresses by address, without reason and
    cause.
    """
    body = {"action": "opt_out", "selection": {"contacts": [3, 5, 4]}}
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()["id"]
    path = f"/v1/jobs/{job}/results"
    await pool.execute(
        "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs) values"
        " (1, $1, 1, '{3,4}', 2), (1, $1, 2, '{5}', 1)",
        job,
    )
    unprocessed = {"outcome": "unprocessed"}
    rows = await get_all_pages(http, key, path, "results", limit=1, **unprocessed)
    assert rows == [{"contact_id": id_} for id_ in (3, 4, 5)]
    in_csv = await http.get(path, headers=key, params={**unprocessed, "format": "csv"})
    assert in_csv.text.split() == ["contact_id", "3", "4", "5"]
    refused = await http.get(path, headers=key, params={**unprocessed, "reason": "bounced"})
    assert "no reason and no cause" in problem_detail(refused, 422, "invalid")
    address_body = {"action": "opt_out", "selection": {"addresses": UNUSUAL_ADDRESSES}}
    job = (await http.post("/v1/jobs", headers=key, json=address_body)).json()["id"]
    rows = await get_all_pages(
        http, key, f"/v1/jobs/{job}/results", "results", limit=1, **unprocessed
    )
    assert {row["address"] for row in rows} == set(UNUSUAL_ADDRESSES)


async def test_results_of_listed_addresses_name_no_contact(http, key, pool, settings):
    """Results of listed addresses have the field `address`, and no contact id."""
    body = {"action": "opt_out", "selection": {"addresses": UNUSUAL_ADDRESSES}}
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()["id"]
    await InProcessRunner(pool, settings, chunk_size=3, parallel=1).work(job)
    rows = await get_all_pages(http, key, f"/v1/jobs/{job}/results", "results", limit=3)
    assert {(r["contact_id"], r["field"], r["outcome"], r["address"]) for r in rows} == {
        (None, "address", "applied", address) for address in UNUSUAL_ADDRESSES
    }
    in_csv = await http.get(f"/v1/jobs/{job}/results?format=csv", headers=key)
    (_, *cells) = csv.reader(io.StringIO(in_csv.text, newline=""))
    assert {(row[0], row[2]) for row in cells} == {("", address) for address in UNUSUAL_ADDRESSES}


async def test_import_rejections_are_listed(http, key, pool):
    """Import rejections have the line of the file, and no page ends within a line."""
    job = (
        await http.post(
            "/v1/jobs", headers=key, json={"action": "opt_out", "selection": {"all": True}}
        )
    ).json()["id"]
    rejections = [
        (2, "no_address", 'it says "x", not more'),
        (2, "tag_too_long", "b"),
        (7, "x", "c"),
    ]
    await pool.executemany(
        "insert into import_rejections values (1, $1, $2, $3, $4)",
        [(job, *row) for row in rejections],
    )
    path = f"/v1/jobs/{job}/import-rejections"
    rows = await get_all_pages(http, key, path, "import_rejections", limit=1)
    assert [(row["line"], row["reason"], row["detail"]) for row in rows] == rejections
    in_csv = await http.get(path, headers=key, params={"format": "csv"})
    assert in_csv.headers["content-disposition"] == (
        f'attachment; filename="job-{job}-import-rejections.csv"'
    )
    assert list(csv.reader(io.StringIO(in_csv.text, newline="")))[1:] == [
        [str(line), *rest] for line, *rest in rejections
    ]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/json;q=0.1, text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/html, text/csv;q=0", "application/json"),
        ("text/csv;q=much", "application/json"),
    ],
)
async def test_accept_chooses_the_format(http, key, job, accept, media_type):
    """The format is the one that `Accept` prefers, and JSON pages if it names none."""
    answer = await http.get(f"/v1/jobs/{job}/results", headers={**key, "Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


async def test_page_parameters_of_a_stream_are_rejected(http, key, job):
    """A stream ignores no parameter: `limit` and `cursor` are rejected, since they apply to pages
    only.
    """
    for params in ({"limit": 5}, {"cursor": "x"}):
        answer = await http.get(
            f"/v1/jobs/{job}/results", headers=key, params={**params, "format": "csv"}
        )
        assert "is sent whole" in problem_detail(answer, 422, "invalid")


@pytest.mark.parametrize(
    "position",
    [[1], [1, 2], [1, 2, "no_cause"], [2**64, 0, "direct"], ["1", 0, "direct"], [1, 0, 1]],
)
async def test_a_forged_position_is_rejected(http, key, job, position):
    """A forged position in a cursor gets 422, not a server error."""
    answer = await http.get(
        f"/v1/jobs/{job}/results", headers=key, params={"cursor": encode_cursor(*position)}
    )
    problem_detail(answer, 422, "invalid")
    past_the_end = encode_cursor(2**63 - 1, 2**40, "propagated")
    answer = await http.get(f"/v1/jobs/{job}/results", headers=key, params={"cursor": past_the_end})
    assert answer.json() == {"results": [], "next": None}


async def test_a_disconnect_releases_everything(app, key, job, monkeypatch):
    """After a disconnect the stream ends, the page ahead is dropped, and no connection stays in
    use.
    """
    monkeypatch.setattr(exports, "ROWS_PER_PAGE", 1)
    reading, disconnected = asyncio.Event(), asyncio.Event()
    sent = []

    async def receive():
        await disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if len(sent) == 3:
            reading.set()
            # A server waits like this if its client stops reading.
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "GET",
        "path": f"/v1/jobs/{job}/results",
        "query_string": b"format=csv",
        "headers": [(name.lower().encode(), value.encode()) for name, value in key.items()],
    }
    pool = app.state.sluice.pool
    request = asyncio.create_task(app(scope, receive, send))
    await asyncio.wait_for(reading.wait(), 20)
    assert not request.done()
    disconnected.set()
    await asyncio.wait_for(request, 80)
    assert [message["status"] for message in sent[:1]] == [200]
    await wait_until_async(
        lambda: pool.get_idle_size() == pool.get_size(),
        deadline_seconds=20,
        what="every connection is released",
    )
    assert len(pool._acquired) == 0
