"""Addresses and contacts over HTTP: statuses with their reasons, and which contact has which
address.
"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from db import contacts
from schemas.statuses import AllowedMail, Status, allowed_mail
from tests.kit.factories import fill
from tests.kit.in_process import InProcessRunner
from tests.kit.property_examples import example_count
from tests.kit.recipients import problem_detail
from tests.kit.submitting import EVIDENCE

STATUSES = [status.value for status in Status]


@pytest.fixture
async def key(key_of):
    """Create a key of the default account with all scopes; return its headers."""
    return await key_of()


async def account_id_of(pool, name="default"):
    """Return the id of the account with this name."""
    return await pool.fetchval("select id from accounts where name = $1", name)


async def test_an_address_has_its_status_and_history(http, key, pool, settings):
    """An address has its status since when, its contacts, and its history with each requester."""
    account_id = await account_id_of(pool)
    addresses = {1: {1: "Ann@x.example", 2: "ann@y.example"}, 2: {3: "Ann@x.example"}}
    statuses = {"Ann@x.example": ("confirmed", False), "ann@y.example": ("confirmed", False)}
    await fill(pool, account_id, addresses, statuses)
    await pool.execute("update email_addresses set match_key = lower(match_key)")
    body = {
        "action": "opt_out",
        "selection": {"contacts": [1]},
        "params": {"kind": "manual"},
        "requested_by": "Eve",
    }
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()["id"]
    await InProcessRunner(pool, settings, chunk_size=5, parallel=1).work(job)
    answer = await http.get("/v1/addresses/ANN%40x.example", headers=key)
    shown = answer.json()
    names = ("address", "status", "marketable", "may_receive", "previous_status", "status_job_id")
    assert [shown[name] for name in names] == [
        *("Ann@x.example", "manual", False, "nothing", "confirmed", job)
    ]
    assert [(c["contact_id"], c["field"]) for c in shown["contacts"]] == [
        (1, "email1"),
        (2, "email3"),
    ]
    assert shown["contact_count"] == 2
    (entry,) = shown["history"]
    assert (entry["job_id"], entry["requested_by"], entry["to_status"]) == (
        job,
        "Eve",
        "manual",
    )
    assert shown["status_changed_at"] == entry["decided_at"]
    assert shown["explanation"][0] == "It gets no broadcasts: recipient used the opt-out link."
    sibling = (await http.get("/v1/addresses/ann@y.example", headers=key)).json()
    assert (sibling["status"], sibling["propagated_from_address"]) == ("manual", "Ann@x.example")
    assert sibling["history"][0]["source_address"] == "Ann@x.example"
    limited = await http.get("/v1/addresses/ann@x.example", headers=key, params={"limit": 1})
    assert len(limited.json()["history"]) == 1


@pytest.mark.parametrize("status", STATUSES)
async def test_the_opt_in_check_agrees_with_the_job(http, key, pool, settings, status):
    """The opt-in check agrees with the job for an address alone, next to an opt-out, and propagated
    to.
    """
    account_id = await account_id_of(pool)
    is_propagated = Status(status).propagated_rank is not None
    initial_statuses = {
        "alone@x.example": (status, False),
        "beside@x.example": (status, False),
        "opted-out@x.example": ("list_unsubscribe", False),
        "spread@x.example": (status, is_propagated),
    }
    addresses = {
        1: {1: "alone@x.example"},
        2: {1: "beside@x.example", 2: "opted-out@x.example"},
        3: {1: "spread@x.example"},
    }
    await fill(pool, account_id, addresses, initial_statuses)
    checks = {}
    for address in initial_statuses:
        shown = (await http.get(f"/v1/addresses/{address}", headers=key)).json()
        check = shown["opt_in_check"]
        assert check["rule"]["explanation"]
        assert check["allowed"] is (check["outcome"] == "applied")
        assert shown["marketable"] is (shown["may_receive"] == "broadcasts")
        checks[address] = (check["outcome"], check["rule"]["reason"])
    body = {
        "action": "opt_in",
        "selection": {"all": True},
        "evidence": EVIDENCE,
        "fields": ["email1", "email2"],
    }
    job = (await http.post("/v1/jobs", headers=key, json=body)).json()["id"]
    await InProcessRunner(pool, settings, chunk_size=5, parallel=1).work(job)
    results = (await http.get(f"/v1/jobs/{job}/results", headers=key)).json()["results"]
    assert checks == {row["address"]: (row["outcome"], row["reason"]) for row in results}


def test_allowed_mail_of_each_status():
    """Opt-outs and undeliverable addresses receive nothing; only marketable ones receive
    broadcasts.
    """
    by_kind = {kind: {s.value for s in Status if allowed_mail(s) is kind} for kind in AllowedMail}
    assert by_kind == {
        "broadcasts": {"single_opt_in", "double_opt_in", "confirmed", "unengaged_marketable"},
        "one_to_one": {"non_marketable", "unengaged_non_marketable", "lockdown", "bounce"},
        "nothing": {
            *("hard_bounce", "invalid", "deactivated", "system"),
            *("admin", "manual", "list_unsubscribe", "feedback", "spam"),
        },
    }


async def test_unknown_addresses_are_not_found(http, key, key_of, pool):
    """Unknown addresses and those of another account get the same 404; invalid ones get 422."""
    other = await key_of("other")
    await fill(
        pool,
        await account_id_of(pool, "other"),
        {1: {1: "a/b@x.example"}},
        {"a/b@x.example": ("spam", False)},
    )
    assert (await http.get("/v1/addresses/a%2Fb@x.example", headers=other)).status_code == 200
    foreign = await http.get("/v1/addresses/a%2Fb@x.example", headers=key)
    unknown = await http.get("/v1/addresses/nobody@x.example", headers=key)
    assert problem_detail(foreign, 404, "not-found") == problem_detail(unknown, 404, "not-found")
    invalid = await http.get("/v1/addresses/not an address", headers=key)
    assert "not an email address" in problem_detail(invalid, 422, "invalid")
    reader = await key_of("default", "jobs:read")
    problem_detail(
        await http.get("/v1/addresses/a@x.example", headers=reader), 403, "scope-missing"
    )
    problem_detail(await http.get("/v1/contacts", headers=reader), 403, "scope-missing")


async def fill_contacts(pool, key_of, count):
    """Store contacts with two addresses each in two accounts, some tagged, some imported.

    Return the id of the import job.
    """
    await key_of("other")
    account_id, other = await account_id_of(pool), await account_id_of(pool, "other")
    import_job = await pool.fetchval(
        "insert into jobs (account_id, action, state, finished_at, fields, selection, requested_by,"
        " request_hash, correlation_id, selected, planned_at) values ($1, 'import', 'completed',"
        " now(), '{1,2,3}', '{}', 'x', '', '', 0, now()) returning id",
        account_id,
    )
    for number, owner in enumerate((account_id, other)):
        await pool.execute(
            "insert into contacts (account_id, id, given_name, import_job_id)"
            " select $1, $2::int + n, 'Ann', case when n % 2 = 0 then $3::bigint end"
            " from generate_series(1, $4::int) n",
            owner,
            number * 1000,
            import_job,
            count,
        )
        await pool.execute(
            "insert into email_addresses (account_id, id, address, match_key, status,"
            " contact_count,"
            " status_changed_at) select $1, 2 * $2::int + n, key, key,"
            " (enum_range(null::email_status))[1 + n % 17], 1, '2024-01-01'::timestamptz"
            " + make_interval(days => n) from generate_series(1, 2 * $3::int) n,"
            " lateral (select n || '@x.example' as key) k",
            owner,
            number * 1000,
            count,
        )
        await pool.execute(
            "insert into contact_emails select $1, $2::int + (n + 1) / 2, 2 - n % 2,"
            " 2 * $2::int + n from generate_series(1, 2 * $3::int) n",
            owner,
            number * 1000,
            count,
        )
        await pool.execute(
            "insert into tags (account_id, id, name) values ($1, 5, 'spring')", owner
        )
        await pool.execute(
            "insert into contact_tags select $1, 5, $2::int + n from generate_series(1, $3::int) n"
            " where n % 3 = 0",
            owner,
            number * 1000,
            count,
        )
    return import_job


@hypothesis_settings(
    max_examples=example_count(40), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    limit=st.integers(1, 70),
    max_scanned=st.integers(1, 70),
    statuses=st.lists(st.sampled_from(STATUSES), max_size=3),
    tag=st.booleans(),
    imported=st.booleans(),
    day=st.none() | st.integers(1, 130),
    fields=st.sets(st.sampled_from(["email1", "email2", "email3"])).map(sorted),
)
async def test_contacts_are_listed_once(
    http, key, key_of, pool, monkeypatch, limit, max_scanned, statuses, tag, imported, day, fields
):
    """Contacts that meet all conditions are listed once, and no others, for any page size."""
    monkeypatch.setattr(contacts, "MAX_SCANNED_CONTACTS", max_scanned)
    import_job = await pool.fetchval("select max(id) from jobs")
    if import_job is None:
        import_job = await fill_contacts(pool, key_of, 60)
    engaged_before = None if day is None else datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day)
    params = {
        **({"status": statuses} if statuses else {}),
        **({"field": fields} if fields else {}),
        **({"tag": "spring"} if tag else {}),
        **({"import": import_job} if imported else {}),
        **({"engaged_before": engaged_before.date().isoformat()} if engaged_before else {}),
        "limit": limit,
    }
    found, cursor = [], {}
    while cursor is not None:
        page = (await http.get("/v1/contacts", headers=key, params={**params, **cursor})).json()
        found += page["contacts"]
        cursor = page["next"] and {"cursor": page["next"]}
    expected = await pool.fetch(
        "select c.id from contacts c where account_id = $1"
        " and ($2::bool is false or c.id in (select contact_id from contact_tags))"
        " and ($3::bool is false or import_job_id is not null)"
        " and (($4::text[] = '{}' and $5::timestamptz is null) or exists ("
        "   select from contact_emails e join email_addresses a on a.id = e.address_id"
        "   where e.contact_id = c.id and 'email' || e.field = any($6)"
        "   and ($4 = '{}' or a.status::text = any($4))"
        "   and ($5 is null or a.status::text like 'unengaged%' and a.status_changed_at < $5)))"
        " order by c.id",
        await account_id_of(pool),
        tag,
        imported,
        statuses,
        engaged_before,
        fields or ["email1"],
    )
    assert [contact["id"] for contact in found] == [row["id"] for row in expected]
    for contact in found:
        assert [email["field"] for email in contact["emails"]] == ["email1", "email2"]
        assert contact["emails"][0]["address"] == f"{2 * contact['id'] - 1}@x.example"


@pytest.mark.parametrize("filters", [{}, {"tag": "spring"}, {"import": 0}])
async def test_addresses_are_counted_by_status(http, key, key_of, pool, filters):
    """With `counts` the first page counts statuses in the named fields of all contacts. The tag and
    the import narrow the counts.
    """
    import_job = await fill_contacts(pool, key_of, 60)
    params = {**filters, **({"import": import_job} if "import" in filters else {}), "limit": 1}
    params["field"] = ["email3", "email2"]
    page = (await http.get("/v1/contacts", headers=key, params={**params, "counts": True})).json()
    expected = await pool.fetch(
        "select a.status, count(*) from contacts c join contact_emails e on e.contact_id = c.id"
        " join email_addresses a on a.id = e.address_id where c.account_id = $1"
        " and ($2::bool is false or c.id in (select contact_id from contact_tags))"
        " and ($3::bool is false or import_job_id is not null) and e.field in (2, 3) group by 1",
        await account_id_of(pool),
        "tag" in filters,
        "import" in filters,
    )
    assert page["counts"] == {row["status"]: row["count"] for row in expected}
    assert (await http.get("/v1/contacts", headers=key, params=params)).json()["counts"] is None
    next_params = {**params, "counts": True, "cursor": page["next"]}
    assert (await http.get("/v1/contacts", headers=key, params=next_params)).json()[
        "counts"
    ] is None


async def test_unknown_tags_and_imports_are_not_found(http, key, key_of, pool):
    """An unknown tag, another account's tag or import, and a job that is no import get 404."""
    import_job = await fill_contacts(pool, key_of, 3)
    other = await key_of("other")
    job = await http.post(
        "/v1/jobs", headers=key, json={"action": "opt_out", "selection": {"all": True}}
    )
    for headers, params in (
        (key, {"tag": "autumn"}),
        (other, {"import": import_job}),
        (key, {"import": job.json()["id"]}),
        (key, {"import": 2**63}),
    ):
        answer = await http.get("/v1/contacts", headers=headers, params=params)
        problem_detail(answer, 404, "not-found")
    for wrong in ({"status": "happy"}, {"engaged_before": "soon"}, {"limit": 0}):
        problem_detail(await http.get("/v1/contacts", headers=key, params=wrong), 422, "invalid")
