"""A request is stored as exactly one job, either completely or not at all."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from db import accounts, jobs
from producers.invalid_request import parse_request
from producers.submit import submit
from schemas.errors import (
    IdempotencyConflict,
    InvalidRequest,
    MissingEvidence,
    NotFound,
    StateConflict,
)
from schemas.requests import MAX_ID
from tests.kit.property_examples import example_count

EVIDENCE = {
    "source": "customer_relationship",
    "description": "They bought from the shop and agreed at the till.",
    "collected_from": "2020-01-01",
    "collected_until": "2020-12-31",
    "attested_by": "the shop's manager",
}


def opt_out(**changes):
    """Return an opt-out of all contacts with these changes."""
    return parse_request(
        {"action": "opt_out", "selection": {"all": True}, "requested_by": "tester", **changes}
    )


def opt_in(**changes):
    """Return an opt-in of all contacts with evidence and these changes."""
    return opt_out(**{"action": "opt_in", "evidence": EVIDENCE, **changes})


async def count_stored_rows(pool):
    """Count the rows in each table that a submission writes."""
    return await pool.fetchrow(
        "select (select count(*) from jobs) as jobs, (select count(*) from job_contacts) as blocks"
    )


async def test_a_job_is_stored_as_requested(pool, settings):
    """The row holds the action, fields, parameters, evidence and a summary of the selection."""
    submitted = await submit(
        pool,
        settings,
        opt_in(
            selection={"statuses": ["non_marketable", "bounce", "bounce"], "contacts": [3, 1, 3]},
            fields=["email2", "email1"],
            idempotency_key="spring",
        ),
    )
    async with pool.acquire() as connection:
        job = await jobs.get_job(connection, submitted.job_id)
        blocks = await connection.fetch("select block_no, contact_ids from job_contacts")
    assert submitted.created
    assert (job.action, job.fields, job.state) == ("opt_in", (1, 2), "planning")
    assert job.selection == {"statuses": ["bounce", "non_marketable"], "contacts": 2}
    assert job.evidence == EVIDENCE
    assert (job.requested_by, job.account, job.idempotency_key) == ("tester", "default", "spring")
    assert [tuple(block) for block in blocks] == [(0, [1, 3])]


async def test_a_long_list_of_contacts_is_kept_in_blocks(pool, settings):
    """All listed ids are stored, in order, in blocks of limited size."""
    ids = list(range(1, 2 * jobs.CONTACTS_PER_BLOCK + 2))
    await submit(pool, settings, opt_out(selection={"contacts": ids}))
    rows = await pool.fetch("select contact_ids from job_contacts order by block_no")
    assert [len(row["contact_ids"]) for row in rows] == [10_000, 10_000, 1]
    assert [contact for row in rows for contact in row["contact_ids"]] == ids


async def test_the_same_key_and_request_give_the_same_job(pool, settings):
    """A different submitter, or another order of ids, fields or statuses, is still the same
    request.
    """
    first = await submit(
        pool, settings, opt_out(selection={"contacts": [1, 2]}, idempotency_key="k")
    )
    again = await submit(
        pool,
        settings,
        opt_out(
            selection={"contacts": [2, 1, 2]},
            idempotency_key="k",
            requested_by="someone else",
            correlation_id="another",
            params={"kind": "admin"},
        ),
    )
    assert again == first._replace(created=False)
    assert tuple(await count_stored_rows(pool)) == (1, 1)


async def test_a_key_reused_for_another_request_is_a_conflict(pool, settings):
    """The error names the job that used the key, and nothing is stored."""
    first = await submit(pool, settings, opt_out(idempotency_key="k"))
    with pytest.raises(IdempotencyConflict, match=rf"'k'.*job {first.job_id}\b"):
        await submit(pool, settings, opt_out(idempotency_key="k", fields=["email2"]))
    assert (await count_stored_rows(pool))["jobs"] == 1


async def test_keys_of_different_accounts_do_not_conflict(pool, settings):
    """Two accounts can use the same key for different jobs."""
    async with pool.acquire() as connection:
        await accounts.create_account(connection, "other")
    first = await submit(pool, settings, opt_out(idempotency_key="k"))
    second = await submit(pool, settings, opt_out(idempotency_key="k", account="other"))
    assert second.created
    assert second.job_id != first.job_id


async def test_concurrent_submissions_with_one_key_make_one_job(pool, settings):
    """Of concurrent submissions with one key, one creates the job, and all of them return it."""
    request = opt_out(selection={"contacts": list(range(20_000))}, idempotency_key="k")
    answers = await asyncio.gather(*(submit(pool, settings, request) for _ in range(5)))
    assert len({answer.job_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert tuple(await count_stored_rows(pool)) == (1, 2)


@hypothesis_settings(
    max_examples=example_count(30), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ids=st.lists(st.integers(-MAX_ID - 1, MAX_ID), min_size=1, max_size=30),
    other_ids=st.lists(st.integers(-MAX_ID - 1, MAX_ID), min_size=1, max_size=30),
)
async def test_a_key_stands_for_one_set_of_contacts(pool, settings, ids, other_ids):
    """A second list with the same key is the same request if and only if it is the same set."""
    key = await pool.fetchval("select gen_random_uuid()::text")
    first = await submit(pool, settings, opt_out(selection={"contacts": ids}, idempotency_key=key))
    request = opt_out(selection={"contacts": other_ids}, idempotency_key=key)
    if set(ids) == set(other_ids):
        assert (await submit(pool, settings, request)).job_id == first.job_id
    else:
        with pytest.raises(IdempotencyConflict):
            await submit(pool, settings, request)


TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


@pytest.mark.parametrize(
    ("request_made", "error", "message"),
    [
        (lambda: opt_in(evidence=None), MissingEvidence, "attested_by"),
        (
            lambda: opt_in(evidence={**EVIDENCE, "collected_until": TOMORROW}),
            MissingEvidence,
            "in the future",
        ),
        (
            lambda: opt_in(evidence={**EVIDENCE, "source": "purchased_list"}),
            MissingEvidence,
            "purchased list",
        ),
        (lambda: opt_in(evidence={**EVIDENCE, "description": "short"}), MissingEvidence, "20"),
        (lambda: opt_out(evidence=EVIDENCE), InvalidRequest, "takes no evidence"),
        (lambda: opt_out(action="opt_over"), NotFound, "opt_in, opt_out"),
        (lambda: opt_out(action="import"), InvalidRequest, "brings its own contacts"),
        (lambda: opt_out(params={"noet": "x"}), InvalidRequest, "noet.*Valid fields: kind, note"),
        (lambda: opt_out(params={"kind": "bounce"}), InvalidRequest, "kind.*list_unsubscribe"),
        (lambda: opt_out(account="nobody"), NotFound, "There are: default"),
        (lambda: opt_out(selection={"tag": "nothing"}), NotFound, "no tag 'nothing'"),
        (lambda: opt_out(selection={"import_job": 12}), NotFound, "Job 12 does not exist"),
        (lambda: opt_out(selection={"import_job": 2**80}), NotFound, "does not exist"),
        (lambda: opt_out(params={"note": "a\x00b"}), InvalidRequest, "NUL"),
        (lambda: opt_out(requested_by="\udcff"), InvalidRequest, "requested_by.*Unicode"),
        (lambda: opt_out(params={"note": "\udcff"}), InvalidRequest, "UTF-8"),
        (lambda: opt_out(fields=["email4"]), InvalidRequest, "first of `fields`.*'email4'"),
        (lambda: opt_out(fields=[]), InvalidRequest, "at least one of email1"),
        (lambda: opt_out(selection={"statuses": ["gone"]}), InvalidRequest, "'gone'"),
        (lambda: opt_out(selection={}), InvalidRequest, "Give a condition"),
        (
            lambda: opt_out(selection={"contacts": ["x"]}),
            InvalidRequest,
            "first of `selection.contacts`",
        ),
        (
            lambda: opt_out(selection={"contacts": [2**63]}),
            InvalidRequest,
            "first of `selection.contacts`",
        ),
        (lambda: opt_out(colour="red"), InvalidRequest, "`colour`: Unknown field"),
    ],
)
async def test_an_invalid_request_stores_nothing(pool, settings, request_made, error, message):
    """The error says what is wrong, and no row is stored."""
    with pytest.raises(error, match=f"(?s){message}"):
        await submit(pool, settings, request_made())
    assert tuple(await count_stored_rows(pool)) == (0, 0)


async def test_an_import_is_selected_only_once_it_has_ended(pool, settings):
    """Selecting a job that is no import, or an import that is still running, is an error."""
    plain = (await submit(pool, settings, opt_out())).job_id
    importing = await pool.fetchval(
        "insert into jobs (account_id, action, fields, selection, requested_by, request_hash,"
        " correlation_id) select id, 'import', '{1}', '{}', 'tester', '', '' from accounts"
        " returning id"
    )
    with pytest.raises(NotFound, match="is not an import but opt_out"):
        await submit(pool, settings, opt_out(selection={"import_job": plain}))
    with pytest.raises(StateConflict, match="not all of its contacts are there yet"):
        await submit(pool, settings, opt_out(selection={"import_job": importing}))
    await pool.execute(
        "update jobs set state = 'completed', selected = 0, planned_at = now(),"
        " finished_at = now() where id = $1",
        importing,
    )
    assert (await submit(pool, settings, opt_out(selection={"import_job": importing}))).created


async def test_an_import_of_another_account_is_not_found(pool, settings):
    """Jobs and tags of another account are not found."""
    await pool.execute(
        "with other as (insert into accounts (name) values ('other') returning id),"
        " tag as (insert into tags (account_id, name) select id, 'vip' from other)"
        " insert into jobs (account_id, action, state, fields, selection, requested_by,"
        " request_hash, correlation_id, finished_at) select id, 'import', 'cancelled', '{1}', '{}',"
        " 'tester', '', '', now() from other"
    )
    other_job = await pool.fetchval("select id from jobs")
    for selection in ({"import_job": other_job}, {"tag": "vip"}):
        with pytest.raises(NotFound):
            await submit(pool, settings, opt_out(selection=selection))
        assert (await submit(pool, settings, opt_out(selection=selection, account="other"))).created


async def test_a_recipients_opt_out_is_logged_as_such(pool, settings):
    """A job of a recipient's kind logs both events, without names or notes."""
    with capture_logs() as logs:
        submitted = await submit(
            pool,
            settings,
            opt_out(
                selection={"contacts": [7]},
                params={"kind": "list_unsubscribe", "note": "jane@example.com"},
                correlation_id="c-1",
            ),
        )
    assert [line["event"] for line in logs] == ["job.submitted", "opt_out.received"]
    assert all((line["job"], line["correlation_id"]) == (submitted.job_id, "c-1") for line in logs)
    assert "jane" not in str(logs)
    assert "tester" not in str(logs)
