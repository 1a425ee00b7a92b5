"""Exports and histories are complete, in order and read by index, however many rows there are."""

import csv
import io
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from db import address_history, exports
from db.exports import ExportFormat, PageRequest
from schemas.job_key import JobKey
from schemas.outcomes import Cause, Outcome
from tests.kit.property_examples import example_count
from tests.kit.waiting import wait_until_async

CONTACTS = 25_000


class Ledger(NamedTuple):
    """Two jobs over the same contacts; most tests read the second one."""

    account_id: int
    other_job: int
    job: int


async def write_ledger(pool, contacts):
    """Store contacts with two addresses each, and a result for each address in two jobs.

    In the second job every tenth contact is rejected, one of them by an internal error. Every
    seventh contact also has a propagated result.
    """
    async with pool.acquire() as connection, connection.transaction():
        account_id = await connection.fetchval("select id from accounts")
        await connection.execute(
            "insert into contacts (account_id, id, given_name)"
            " select $1, n, 'Ann' from generate_series(1, $2::int) n",
            account_id,
            contacts,
        )
        await connection.execute(
            "insert into email_addresses (account_id, id, address, match_key, status)"
            " select $1, n, 'A' || n || '@x.example', 'a' || n || '@x.example', 'non_marketable'"
            " from generate_series(1, 2 * $2::int) n",
            account_id,
            contacts,
        )
        await connection.execute(
            "insert into contact_emails (account_id, contact_id, field, address_id)"
            " select $1, (n + 1) / 2, 2 - n % 2, n from generate_series(1, 2 * $2::int) n",
            account_id,
            contacts,
        )
        ids = [
            await connection.fetchval(
                "insert into jobs (account_id, action, fields, selection, requested_by,"
                " request_hash, correlation_id, evidence) values ($1, 'opt_out', '{1,2}', '{}',"
                " $2, '', '', '{\"source\": \"event\"}') returning id",
                account_id,
                requested_by,
            )
            for requested_by in ("Eve", "Bob")
        ]
        await connection.execute(
            "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, error)"
            " select $1, $2, n, array[10 * n, 10 * n + 1], 4, 'it broke'"
            " from generate_series(1, 25) n",
            *(account_id, ids[1]),
        )
        await connection.execute(
            """
            insert into results (account_id, job_id, chunk_no, item_id, contact_id, field,
                                 address_id, outcome, reason, from_status, to_status,
                                 cause, source_address_id)
            select $3::bigint, j.id, 1, (n + 1) / 2, (n + 1) / 2, 2 - n % 2, n,
                   case when rejected then 'rejected' else 'applied' end::result_outcome,
                   case when rejected and n = 19 then 'internal_error'
                        when rejected then 'bounced' end,
                   'non_marketable'::email_status,
                   case when not rejected then 'admin'::email_status end,
                   'direct'::result_cause, null::bigint
            from unnest($1::bigint[]) j (id), generate_series(1, 2 * $2::int) n,
                 lateral (select j.id = $1[2] and (n + 1) / 2 % 10 = 0 as rejected) as r
            union all
            select $3, $1[2], 1, (n + 1) / 2, (n + 1) / 2, 2, n + 1, 'applied', null,
                   'non_marketable',
                   'admin',
                   'propagated', n
            from generate_series(13, 2 * $2::int, 14) n
            """,
            *(ids, contacts, account_id),
        )
    return Ledger(account_id, *ids)


async def collected(pool, listing, *, form=ExportFormat.JSON, limit=None):
    """Return the rows of all pages, from JSON as objects and from CSV as lists."""
    async with aclosing(exports.stream_pages(pool, listing, form=form, limit=limit)) as pages:
        if form is ExportFormat.JSON:
            return [row async for page in pages for row in page.objects()]
        text = "".join([page.lines async for page in pages])
        return list(csv.reader(io.StringIO(text, newline="")))


@hypothesis_settings(
    max_examples=example_count(40), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.integers(1, 130),
    max_scanned=st.integers(1, 130),
    limit=st.none() | st.integers(1, 300),
    outcome=st.none() | st.sampled_from(Outcome),
    reason=st.none() | st.sampled_from(["bounced", "internal_error", "no_such_reason"]),
    cause=st.none() | st.sampled_from(Cause),
)
async def test_pages_together_have_all_rows(
    pool, monkeypatch, size, max_scanned, limit, outcome, reason, cause
):
    """Pages of any size together have the requested rows, each once and in order."""
    account_id = await pool.fetchval("select id from accounts")
    job = await pool.fetchval("select max(id) from jobs")
    if job is None:
        account_id, _, job = await write_ledger(pool, 60)
    monkeypatch.setattr(exports, "ROWS_PER_PAGE", size)
    monkeypatch.setattr(exports, "MAX_SCANNED_ROWS", max_scanned)
    listing = exports.export_results(
        JobKey(account_id, job), outcome=outcome, reason=reason, cause=cause
    )
    rows = await collected(pool, listing, limit=limit)
    expected = await pool.fetch(
        "select contact_id, 'email' || field, cause from results where job_id = $1"
        " and ($2::result_outcome is null or outcome = $2) and ($3::text is null or reason = $3)"
        " and ($4::result_cause is null or cause = $4) order by contact_id, field, cause limit $5",
        job,
        outcome,
        reason,
        cause,
        limit,
    )
    keys = [(row["contact_id"], row["field"], row["cause"]) for row in rows]
    assert keys == [tuple(row) for row in expected]


async def test_a_result_has_its_addresses_and_its_error(pool):
    """A result has the address as stored, the source of a propagation, and the internal error."""
    ledger = await write_ledger(pool, 20)
    rows = await collected(pool, exports.export_results(JobKey(ledger.account_id, ledger.job)))
    by_key = {(row["contact_id"], row["field"], row["cause"]): row for row in rows}
    propagated = by_key[7, "email2", "propagated"]
    assert (propagated["address"], propagated["source_address"]) == (
        "A14@x.example",
        "A13@x.example",
    )
    assert propagated["to_status"] == "admin"
    failed = by_key[10, "email1", "direct"]
    assert (failed["outcome"], failed["reason"], failed["error"]) == (
        "rejected",
        "internal_error",
        "it broke",
    )
    assert by_key[10, "email2", "direct"]["error"] is None


async def test_csv_and_json_have_the_same_values(pool):
    """CSV has the same values as JSON, with quotation marks, commas and line breaks. Null is an
    empty cell.
    """
    ledger = await write_ledger(pool, 20)
    unusual = [
        '"a,b"@x.example',
        '"say ""hi"""@x.example',
        "ünï@x.example",
        '"a\u2028b\x85"@x.example',
    ]
    for number, address in enumerate(unusual, start=13):
        await pool.execute("update email_addresses set address = $2 where id = $1", number, address)
    await pool.execute(
        "update job_chunks set error = e'one,\\n\"two\"\\r\\nthree' where chunk_no = 1"
    )
    listing = exports.export_results(JobKey(ledger.account_id, ledger.job))
    in_json = await collected(pool, listing)
    assert set(unusual) <= {row["address"] for row in in_json}
    assert 'one,\n"two"\r\nthree' in {row["error"] for row in in_json}
    assert await collected(pool, listing, form=ExportFormat.CSV) == [
        ["" if row[name] is None else str(row[name]) for name in listing.columns] for row in in_json
    ]
    timestamps = {row["decided_at"] for row in in_json}
    assert {datetime.fromisoformat(timestamp) for timestamp in timestamps} == {
        row["decided_at"]
        for row in await pool.fetch("select decided_at from results where job_id = $1", ledger.job)
    }


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_unprocessed_contacts_are_listed(pool, monkeypatch, size):
    """Every contact of a pending chunk is listed once, and none of a done or split chunk."""
    monkeypatch.setattr(exports, "ROWS_PER_PAGE", size)
    monkeypatch.setattr(exports, "CHUNKS_PER_PAGE", 4)
    ledger = await write_ledger(pool, 1)
    await pool.execute(
        "update job_chunks set state = 'split' where chunk_no = 3;"
        " update job_chunks set state = 'done', applied = 4 where chunk_no = 5"
    )
    expected = [id_ for n in range(1, 26) if n not in {3, 5} for id_ in (10 * n, 10 * n + 1)]
    listing = exports.export_unprocessed_contacts(JobKey(ledger.account_id, ledger.job))
    rows = await collected(pool, listing)
    assert rows == [{"contact_id": id_} for id_ in expected]
    in_csv = await collected(pool, listing, form=ExportFormat.CSV)
    assert in_csv == [[str(id_)] for id_ in expected]


@pytest.mark.parametrize("form", ExportFormat)
async def test_unprocessed_addresses_are_listed(pool, monkeypatch, form):
    """Unprocessed addresses are listed as submitted and in their order."""
    monkeypatch.setattr(exports, "ROWS_PER_PAGE", 2)
    ledger = await write_ledger(pool, 1)
    listed = ["Z@x.example", '"a,b"@x.example', "m@x.example"]
    await pool.executemany(
        "insert into job_addresses (account_id, job_id, line, address, match_key)"
        " values ($1, $2, $3, $4, $4)",
        [(ledger.account_id, ledger.job, line, address) for line, address in enumerate(listed)],
    )
    rows = await collected(
        pool, exports.export_unprocessed_addresses(JobKey(ledger.account_id, ledger.job)), form=form
    )
    assert rows == [{"address": a} if form is ExportFormat.JSON else [a] for a in listed]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_all_rejections_of_one_line_are_listed(pool, monkeypatch, size):
    """A page never ends between the rejections of one line."""
    monkeypatch.setattr(exports, "ROWS_PER_PAGE", size)
    ledger = await write_ledger(pool, 1)
    lines = [2, 2, 2, 3, 5, 5, 9]
    await pool.executemany(
        "insert into import_rejections values ($1, $2, $3, 'invalid_address', $4)",
        [(ledger.account_id, ledger.job, line, f"detail, {n}") for n, line in enumerate(lines)],
    )
    rows = await collected(
        pool, exports.export_import_rejections(JobKey(ledger.account_id, ledger.job))
    )
    assert [row["line"] for row in rows] == lines
    assert {row["detail"] for row in rows} == {f"detail, {n}" for n in range(len(lines))}
    assert await collected(
        pool,
        exports.export_import_rejections(JobKey(ledger.account_id, ledger.job)),
        form=ExportFormat.CSV,
    ) == [[str(row["line"]), row["reason"], row["detail"]] for row in rows]
    async with pool.acquire() as connection:
        by_reason = await address_history.count_import_rejections(
            connection, JobKey(ledger.account_id, ledger.job)
        )
    assert by_reason == {"invalid_address": len(lines)}


async def test_one_page_is_fetched_ahead(pool, monkeypatch):
    """A reader that stops early leaves no connection in use and fetches no further page."""
    monkeypatch.setattr(exports, "ROWS_PER_PAGE", 5)
    ledger = await write_ledger(pool, 60)
    listing = exports.export_results(JobKey(ledger.account_id, ledger.job))
    requests = []

    async def read_page(connection, request):
        requests.append(request)
        return await listing.read_page(connection, request)

    async with aclosing(
        exports.stream_pages(
            pool, replace(listing, read_page=read_page), form=ExportFormat.JSON, limit=None
        )
    ) as pages:
        async for _ in pages:
            await wait_until_async(
                lambda: len(requests) == 2 and pool.get_idle_size() == pool.get_size(),
                deadline_seconds=20,
                what="the page ahead was fetched",
            )
            break
    assert pool.get_idle_size() == pool.get_size()
    assert len(requests) == 2


async def test_a_history_has_every_decision_newest_first(pool):
    """An address's history has each job's decision, with its requester and evidence."""
    ledger = await write_ledger(pool, 10)
    async with pool.acquire() as connection:
        address = await address_history.get_address(
            connection, account_id=ledger.account_id, match_key="a14@x.example"
        )
        assert address is not None
        history = await address_history.list_history(
            connection, account_id=ledger.account_id, address_id=address.id, limit=10
        )
        contacts, count = await address_history.list_contacts(
            connection, account_id=ledger.account_id, address_id=address.id, limit=10
        )
        unknown = await address_history.get_address(
            connection, account_id=ledger.account_id, match_key="A14@x.example"
        )
    assert address.address == "A14@x.example"
    assert [entry.decided_at for entry in history] == sorted(
        (entry.decided_at for entry in history), reverse=True
    )
    assert {(c.job_id, c.requested_by, c.cause, c.evidence_source) for c in history} == {
        (ledger.other_job, "Eve", Cause.DIRECT, "event"),
        (ledger.job, "Bob", Cause.DIRECT, "event"),
        (ledger.job, "Bob", Cause.PROPAGATED, "event"),
    }
    assert ([(h.contact_id, h.field) for h in contacts], count) == ([(7, "email2")], 1)
    assert unknown is None


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_no_table_is_read_by_a_scan(pool, plans):
    """No read path scans a whole table, neither with custom plans nor with generic plans."""
    ledger = await write_ledger(pool, CONTACTS)
    await pool.execute(
        "insert into import_rejections select $1, $2, n, 'invalid_address', ''"
        " from generate_series(1, 20000) n",
        *(ledger.account_id, ledger.job),
    )
    await pool.execute("vacuum analyze")
    account_id, _, job = ledger
    async with pool.acquire() as connection:
        await connection.execute(f"set plan_cache_mode = {plans}")
        before = await count_scans(connection)
        for outcome in (None, *Outcome):
            for contact_id in (0, CONTACTS // 2):
                listing = exports.export_results(JobKey(account_id, job), outcome=outcome)
                request = PageRequest(ExportFormat.CSV, (contact_id, 1, "direct"), limit=1_000)
                await listing.read_page(connection, request)
        address = await address_history.get_address(
            connection, account_id=account_id, match_key="a14@x.example"
        )
        assert address is not None
        await address_history.list_contacts(
            connection, account_id=account_id, address_id=address.id, limit=5
        )
        await address_history.list_history(
            connection, account_id=account_id, address_id=address.id, limit=5
        )
        rejections = exports.export_import_rejections(JobKey(account_id, job))
        request = PageRequest(ExportFormat.CSV, (9_000,), limit=100)
        assert (await rejections.read_page(connection, request)).rows
        assert await count_scans(connection) == before


async def count_scans(connection):
    """Return how often each large table was scanned sequentially."""
    await connection.execute("select pg_stat_force_next_flush()")
    rows = await connection.fetch(
        "select relname, seq_scan from pg_stat_user_tables where relname = any($1)",
        ["results", "email_addresses", "contact_emails", "contacts", "import_rejections"],
    )
    return {row["relname"]: row["seq_scan"] for row in rows}
