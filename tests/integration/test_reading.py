"""Reading results and histories: complete, in order, and by index however many there are."""

import itertools
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from db import reading
from schemas.outcomes import Cause, Outcome
from schemas.statuses import Status

MANY = 25_000


class Ledger(NamedTuple):
    """Two jobs over the same contacts; the second has the rows that most tests look at."""

    account_id: int
    other_job: int
    job: int


async def write_ledger(pool, contacts):
    """`contacts` contacts with two addresses each, and a result for each address in two jobs.

    In the second job every tenth contact is rejected, one of them by an internal error, and each
    seventh has a propagated row besides.
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
                who,
            )
            for who in ("Eve", "Bob")
        ]
        await connection.execute(
            "insert into job_chunks (job_id, chunk_no, contact_ids, pairs, error)"
            " select $1, n, array[10 * n, 10 * n + 1], 4, 'it broke' from generate_series(1, 25) n",
            ids[1],
        )
        await connection.execute(
            """
            insert into results (job_id, chunk_no, contact_id, field, address_id, outcome, reason,
                                 from_status, to_status, cause, source_address_id)
            select j.id, 1, (n + 1) / 2, 2 - n % 2, n,
                   case when rejected then 'rejected' else 'applied' end::result_outcome,
                   case when rejected and n = 19 then 'internal_error'
                        when rejected then 'bounced' end,
                   'non_marketable'::email_status,
                   case when not rejected then 'admin'::email_status end,
                   'direct'::result_cause, null::bigint
            from unnest($1::bigint[]) j (id), generate_series(1, 2 * $2::int) n,
                 lateral (select j.id = $1[2] and (n + 1) / 2 % 10 = 0 as rejected) as r
            union all
            select $1[2], 1, (n + 1) / 2, 2, n + 1, 'applied', null, 'non_marketable',
                   'admin',
                   'propagated', n
            from generate_series(13, 2 * $2::int, 14) n
            """,
            ids,
            contacts,
        )
    return Ledger(account_id, *ids)


async def collected(rows):
    return [row async for row in rows]


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.integers(1, 130),
    most=st.none() | st.integers(1, 300),
    outcome=st.none() | st.sampled_from(Outcome),
    reason=st.none() | st.sampled_from(["bounced", "internal_error", "no_such_reason"]),
)
async def test_pages_together_are_the_whole(pool, monkeypatch, size, most, outcome, reason):
    """Whatever the size of a page, the rows are those asked for, each once and in order."""
    account_id = await pool.fetchval("select id from accounts")
    job = await pool.fetchval("select max(id) from jobs")
    if job is None:
        account_id, _, job = await write_ledger(pool, 60)
    monkeypatch.setattr(reading, "RESULTS_PER_PAGE", size)
    rows = await collected(
        reading.all_results(
            pool, account_id=account_id, job_id=job, outcome=outcome, reason=reason, most=most
        )
    )
    expected = await pool.fetch(
        "select contact_id, field, cause from results where job_id = $1"
        " and ($2::result_outcome is null or outcome = $2) and ($3::text is null or reason = $3)"
        " order by 1, 2, 3 limit $4",
        job,
        outcome,
        reason,
        most,
    )
    assert [tuple(row.cursor) for row in rows] == [tuple(row) for row in expected]


async def test_a_result_tells_its_addresses_and_its_error(pool):
    """A row has the address as it was given, the source of a spread, and Sluice's own error."""
    ledger = await write_ledger(pool, 20)
    rows = await collected(
        reading.all_results(pool, account_id=ledger.account_id, job_id=ledger.job)
    )
    by_key = {(row.contact_id, row.field, row.cause): row for row in rows}
    propagated = by_key[7, 2, Cause.PROPAGATED]
    assert (propagated.address, propagated.source_address) == ("A14@x.example", "A13@x.example")
    assert propagated.to_status is Status.ADMIN
    failed = by_key[10, 1, Cause.DIRECT]
    assert (failed.outcome, failed.reason, failed.error) == (
        Outcome.REJECTED,
        "internal_error",
        "it broke",
    )
    assert by_key[10, 2, Cause.DIRECT].error is None


async def test_the_contacts_that_were_not_worked_are_listed(pool, monkeypatch):
    """Every contact of a pending chunk is listed once, and none of a done or split one."""
    monkeypatch.setattr(reading, "CHUNKS_PER_PAGE", 4)
    ledger = await write_ledger(pool, 1)
    await pool.execute(
        "update job_chunks set state = 'split' where chunk_no = 3;"
        " update job_chunks set state = 'done', applied = 4 where chunk_no = 5"
    )
    contacts = await collected(reading.unprocessed_contacts(pool, ledger.job))
    expected = [(10 * n, 10 * n + 1) for n in range(1, 26) if n not in {3, 5}]
    assert contacts == list(itertools.chain.from_iterable(expected))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_refusals_come_all_even_where_one_line_has_several(pool, monkeypatch, size):
    """The end of a page never falls between the refusals of one line."""
    monkeypatch.setattr(reading, "RESULTS_PER_PAGE", size)
    ledger = await write_ledger(pool, 1)
    lines = [2, 2, 2, 3, 5, 5, 9]
    await pool.executemany(
        "insert into import_rejections values ($1, $2, 'invalid_address', $3)",
        [(ledger.job, line, f"detail {n}") for n, line in enumerate(lines)],
    )
    rows = await collected(reading.refusals(pool, ledger.job))
    assert [row.line for row in rows] == lines
    assert {row.detail for row in rows} == {f"detail {n}" for n in range(len(lines))}
    async with pool.acquire() as connection:
        by_reason = await reading.refusals_by_reason(connection, ledger.job)
    assert by_reason == {"invalid_address": len(lines)}


async def test_a_history_has_every_decision_the_newest_first(pool):
    """An address's history tells each job's decision, who asked, and on what evidence."""
    ledger = await write_ledger(pool, 10)
    async with pool.acquire() as connection:
        now = await reading.address_now(
            connection, account_id=ledger.account_id, match_key="a14@x.example"
        )
        assert now is not None
        history = await reading.history_of(
            connection, account_id=ledger.account_id, address_id=now.id, most=10
        )
        holders, count = await reading.holders_of(
            connection, account_id=ledger.account_id, address_id=now.id, most=10
        )
        unknown = await reading.address_now(
            connection, account_id=ledger.account_id, match_key="A14@x.example"
        )
    assert now.address == "A14@x.example"
    assert [chapter.decided_at for chapter in history] == sorted(
        (chapter.decided_at for chapter in history), reverse=True
    )
    assert {(c.job_id, c.requested_by, c.cause, c.evidence_source) for c in history} == {
        (ledger.other_job, "Eve", Cause.DIRECT, "event"),
        (ledger.job, "Bob", Cause.DIRECT, "event"),
        (ledger.job, "Bob", Cause.PROPAGATED, "event"),
    }
    assert ([(h.contact_id, h.field) for h in holders], count) == ([(7, 2)], 1)
    assert unknown is None


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_nothing_is_read_by_scanning_a_table(pool, plans):
    """No read path goes through a whole table, whether plans are made for values or for all."""
    ledger = await write_ledger(pool, MANY)
    await pool.execute(
        "insert into import_rejections select $1, n, 'invalid_address', ''"
        " from generate_series(1, 20000) n",
        ledger.job,
    )
    await pool.execute("vacuum analyze")
    account_id, _, job = ledger
    async with pool.acquire() as connection:
        await connection.execute(f"set plan_cache_mode = {plans}")
        before = await scans(connection)
        for outcome in (None, *Outcome):
            for contact_id in (0, MANY // 2):
                await reading.results_page(
                    connection,
                    account_id=account_id,
                    job_id=job,
                    outcome=outcome,
                    after=reading.ResultCursor(contact_id, 1, "direct"),
                    most=1_000,
                )
        now = await reading.address_now(
            connection, account_id=account_id, match_key="a14@x.example"
        )
        assert now is not None
        await reading.holders_of(connection, account_id=account_id, address_id=now.id, most=5)
        await reading.history_of(connection, account_id=account_id, address_id=now.id, most=5)
        assert await collected(
            reading._sql.refusals_page(connection, job_id=job, line=9_000, most=100)
        )
        assert await scans(connection) == before


async def scans(connection):
    """How often each of the large tables has been read from end to end."""
    await connection.execute("select pg_stat_force_next_flush()")
    rows = await connection.fetch(
        "select relname, seq_scan from pg_stat_user_tables where relname = any($1)",
        ["results", "email_addresses", "contact_emails", "contacts", "import_rejections"],
    )
    return {row["relname"]: row["seq_scan"] for row in rows}
