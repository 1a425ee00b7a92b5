"""A search and a job with the same conditions select the same contacts. An empty condition is an
error.
"""

import io

import pytest
from hypothesis import strategies as st

from db import contacts, jobs
from db.contacts import ContactFilter
from engine.planner import plan_job
from producers.invalid_request import parse_request
from producers.submit import submit
from producers.uploads import AddressUpload, ContactUpload
from schemas.actors import PYTHON
from schemas.errors import InvalidRequest
from schemas.requests import MAX_ID, JobRequest
from tests.integration.test_http_job_uploads import form
from tests.integration.test_http_jobs import two_people
from tests.kit.factories import fill, key_of, make_account
from tests.kit.in_process import InProcessRunner
from tests.kit.model_comparison import ADDRESSES, link_lists, start_statuses
from tests.kit.property_examples import check_property
from tests.kit.recipients import problem_detail
from tests.kit.submitting import EVIDENCE, submit_job

FIELDS = ("email1", "email2", "email3")
OPT_OUT = {"action": "opt_out", "selection": {"all": True}}


@pytest.fixture
async def key(key_of):
    """Make an API key of the default account with all scopes, as headers."""
    return await key_of()


async def find_contacts(http, key, params):
    """Return the ids that the search finds over all pages, and its first page."""
    first = page = (await http.get("/v1/contacts", headers=key, params=params)).json()
    ids = [contact["id"] for contact in page["contacts"]]
    while page["next"]:
        later = {**params, "cursor": page["next"]}
        page = (await http.get("/v1/contacts", headers=key, params=later)).json()
        ids += [contact["id"] for contact in page["contacts"]]
    return ids, first


async def select_contacts(http, key, pool, body):
    """Submit and plan the job; return the ids that it selects, and the job."""
    answer = await http.post("/v1/jobs", headers=key, json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    async with pool.acquire() as connection:
        await plan_job(connection, await key_of(pool, job), chunk_size=3, max_lanes=1)
    rows = await pool.fetch("select item_ids from job_chunks where job_id = $1", job)
    shown = (await http.get(f"/v1/jobs/{job}", headers=key)).json()
    return sorted(id_ for row in rows for id_ in row["item_ids"]), shown


async def fill_account(pool, number, contacts, present, tagged, imported):
    """Create an account of these contacts, some tagged and some imported; return the import."""
    account_id = await make_account(pool, f"account-{number}")
    ids = [1_000 * number + n for n in range(len(contacts))]
    addresses_held = {address for links in contacts for address in links.values()}
    statuses = {a: s for a, s in zip(ADDRESSES, present, strict=True) if a in addresses_held}
    # A propagated status needs another address as its source.
    if len(statuses) == 1:
        statuses = {address: (status, False) for address, (status, _) in statuses.items()}
    await fill(pool, account_id, dict(zip(ids, contacts, strict=True)), statuses)
    import_job = await pool.fetchval(
        "insert into jobs (account_id, action, state, finished_at, fields, selection, requested_by,"
        " request_hash, correlation_id, selected, planned_at) values ($1, 'import', 'completed',"
        " now(), '{1,2,3}', '{}', 'x', '', '', 0, now()) returning id",
        account_id,
    )
    await pool.execute(
        "update contacts set import_job_id = $2 where account_id = $1 and id = any($3::bigint[])",
        account_id,
        import_job,
        [ids[n] for n in imported if n < len(ids)],
    )
    tag = await pool.fetchval(
        "insert into tags (account_id, name) values ($1, 't') returning id", account_id
    )
    await pool.execute(
        "insert into contact_tags select $1, $2, unnest($3::bigint[])",
        account_id,
        tag,
        [ids[n] for n in tagged if n < len(ids)],
    )
    return import_job


positions = st.sets(st.integers(0, 6))
statuses_of_conditions = st.sets(
    st.sampled_from(["non_marketable", "single_opt_in", "manual", "admin", "bounce"]), min_size=1
)
conditions = st.fixed_dictionaries(
    {},
    optional={
        "tag": st.just("t"),
        "import": st.just(True),
        "statuses": statuses_of_conditions.map(sorted),
    },
)
fields_named = st.none() | st.permutations(FIELDS).flatmap(
    lambda names: st.integers(1, 3).map(lambda limit: list(names)[:limit])
)


async def test_a_search_finds_the_contacts_that_a_job_selects(http, key_of, pool):
    """Search and job select the same contacts for any account, conditions and fields, and report
    the same fields. The counts cover the addresses in these fields only.
    """
    numbers = iter(range(1, 10_000))

    async def check(contacts, present, tagged, imported, filters, fields):
        number = next(numbers)
        import_job = await fill_account(pool, number, contacts, present, tagged, imported)
        key = await key_of(f"account-{number}")
        search = {"limit": 2, "counts": True}
        selection = {}
        if "tag" in filters:
            search["tag"] = selection["tag"] = filters["tag"]
        if "import" in filters:
            search["import"] = selection["import_job"] = import_job
        if "statuses" in filters:
            search["status"] = selection["statuses"] = filters["statuses"]
        body = {"action": "opt_in", "evidence": EVIDENCE, "selection": selection or {"all": True}}
        if fields:
            search["field"] = body["fields"] = fields
        found, page = await find_contacts(http, key, search)
        selected, job = await select_contacts(http, key, pool, body)
        assert found == selected
        assert page["fields"] == job["fields"] == sorted(fields or ["email1"])
        assert job["selected"] == len(selected) * len(job["fields"])
        assert (job["warning"] is None) is bool(selected)
        counted = await pool.fetch(
            "select a.status, count(distinct a.id) from contacts c"
            " join contact_emails e on e.account_id = c.account_id and e.contact_id = c.id"
            " join email_addresses a on a.account_id = e.account_id and a.id = e.address_id"
            " where c.account_id = (select id from accounts where name = $1)"
            " and 'email' || e.field = any($2) and ($3::bool is false or c.import_job_id = $4)"
            " and ($5::bool is false or exists (select from contact_tags t"
            "   where t.account_id = c.account_id and t.contact_id = c.id)) group by 1",
            f"account-{number}",
            page["fields"],
            "import" in filters,
            import_job,
            "tag" in filters,
        )
        assert page["counts"] == dict(map(tuple, counted))

    await check_property(
        check,
        link_lists,
        start_statuses,
        positions,
        positions,
        conditions,
        fields_named,
        max_examples=40,
    )


async def test_an_address_in_another_field_needs_that_field_named(http, key, pool, settings):
    """A second address without permission is found, and opted in, only if its field is named."""
    work = InProcessRunner(pool, settings, chunk_size=2, parallel=1)
    for text, claimed in (
        ("First Name,Email,Email Address 2\nAnn,ann@example.com,\n", {"permission": True}),
        (
            "First Name,Email,Email Address 2,Tags\nAnn,ann@example.com,ann2@example.com,t\n",
            {"permission": False},
        ),
    ):
        job = await submit_job(pool, settings, "default", "import", text.encode(), None, claimed)
        await work.work(job)
    body = {
        "action": "opt_in",
        "evidence": EVIDENCE,
        "selection": {"tag": "t", "statuses": ["non_marketable"]},
    }
    for fields, number in (([], 0), (["email1"], 0), (["email2"], 1), (["email1", "email2"], 1)):
        named = {"fields": fields} if fields else {}
        search = {"tag": "t", "status": "non_marketable", "field": fields}
        found, _ = await find_contacts(http, key, search)
        selected, job = await select_contacts(http, key, pool, body | named)
        assert len(found) == len(selected) == number
        if not selected:
            assert "selects no contact" in job["warning"]
            assert "email1" in job["warning"]
    await work.work(job["id"])
    history = (await http.get("/v1/addresses/ann2@example.com", headers=key)).json()
    assert history["status"] == "single_opt_in"


async def test_engagement_is_searched_in_the_named_fields(http, key, pool):
    """An address in the named fields has to meet the condition on engagement."""
    account_id = await pool.fetchval("select id from accounts")
    await fill(
        pool,
        account_id,
        {1: {1: "a@x.example", 2: "b@x.example"}},
        {"a@x.example": ("confirmed", False), "b@x.example": ("unengaged_marketable", False)},
    )
    for field, number in (("email1", 0), ("email2", 1), ("email3", 0)):
        params = {"engaged_before": "2100-01-01", "field": field}
        found, page = await find_contacts(http, key, params)
        assert (len(found), page["fields"]) == (number, [field])


VALID = {
    "all": [True],
    "tag": ["t"],
    "import_job": [1],
    "statuses": [["non_marketable"], ["manual", "confirmed"]],
    "contacts": [[1], [1, 2]],
    "addresses": [["ann@x.example"]],
}
EMPTY = {
    "tag": ["", None],
    "import_job": ["", None, []],
    "statuses": [[], None, "", [""], {}],
    "contacts": [[], None, "", [""], {}],
    "addresses": [[], None, "", [""], {}],
}
selections_with_an_empty_member = st.sampled_from(sorted(EMPTY)).flatmap(
    lambda name: st.tuples(
        st.fixed_dictionaries(
            {name: st.sampled_from(EMPTY[name])},
            optional={
                other: st.sampled_from(VALID[other] + EMPTY.get(other, []))
                for other in VALID
                if other != name
            },
        ),
        st.sampled_from([None, *FIELDS]),
        st.sampled_from(["run", "plan"]),
    )
)


async def test_an_empty_condition_selects_nothing(http, key, pool, settings):
    """An empty member of the selection is an error that names it, whatever else is selected. This
    holds for bodies, forms and Python, and nothing is stored.
    """
    await two_people(pool)
    headers = key | {"Prefer": "wait=0"}

    async def check(selection, field, mode):
        body = {"action": "opt_out", "selection": selection, "mode": mode}
        if field:
            body["fields"] = [field]
        answer = await http.post("/v1/jobs", headers=headers, json=body)
        assert "selection." in problem_detail(answer, 422, "invalid")
        for name, content in (("contacts", "1"), ("addresses", "ann@x.example")):
            answer = await http.post("/v1/jobs", headers=headers, **form(body, **{name: content}))
            problem_detail(answer, 422, "invalid")
        request = {"action": "opt_out", "selection": selection, "requested_by": "test"}
        with pytest.raises(InvalidRequest):
            parse_request(request)
        with pytest.raises(ValueError, match=r"selection\.|Selection"):
            JobRequest.model_validate(request)
        assert await pool.fetchval("select count(*) from jobs") == 0

    await check_property(
        lambda case: check(*case),
        selections_with_an_empty_member,
        max_examples=50,
        explicit_examples=[
            (({"all": True, name: empty[0]}, None, "run"),) for name, empty in EMPTY.items()
        ],
    )


@pytest.mark.parametrize("fields", [[], None, "", [""]])
async def test_a_job_without_fields_is_invalid(http, key, pool, fields):
    """An empty list of fields is an error; it does not stand for the default fields."""
    answer = await http.post("/v1/jobs", headers=key, json={**OPT_OUT, "fields": fields})
    assert "fields" in problem_detail(answer, 422, "invalid")
    assert await pool.fetchval("select count(*) from jobs") == 0


@pytest.mark.parametrize("content", ["", "\n", ",,\n \n", "contact_id\n", "\ufeff"])
@pytest.mark.parametrize("name", ["contacts", "addresses"])
async def test_an_empty_file_is_invalid(http, key, pool, content, name):
    """An empty file of ids or addresses is an error, whatever else the selection contains."""
    await two_people(pool)
    other_selections = (
        [{"statuses": ["non_marketable"]}, {"all": True}] if name == "contacts" else []
    )
    for selection in ({}, *other_selections):
        body = {"action": "opt_out", "selection": selection}
        answer = await http.post("/v1/jobs", headers=key, **form(body, **{name: content}))
        detail = problem_detail(answer, 422, "invalid")
        assert name == "addresses" or "lists no contact id" in detail
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_an_empty_list_in_place_of_a_file_needs_the_file(pool, settings):
    """From Python, a request made for a file is an error without the file, or with an empty one.
    Nothing is stored.
    """
    for name, upload in (("contacts", ContactUpload), ("addresses", AddressUpload)):
        arguments = {"action": "opt_out", "selection": {name: ()}, "requested_by": "test"}
        request = parse_request(arguments, uploaded=name)
        with pytest.raises(InvalidRequest, match="lists nothing"):
            await submit(pool, settings, request)
        with pytest.raises(InvalidRequest, match="lists no"):
            await submit(pool, settings, request, upload=upload(io.BytesIO()))
        others = {"contacts": "addresses", "addresses": "contacts"}
        with pytest.raises(InvalidRequest, match="The list is empty"):
            parse_request(arguments, uploaded=others[name])
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_an_empty_list_of_statuses_selects_no_contact(pool):
    """In the database too, an empty list of statuses selects no contact, in jobs and searches."""
    await two_people(pool)
    account_id = await pool.fetchval("select id from accounts")
    async with pool.acquire() as connection:
        new = jobs.NewJob(
            account_id=account_id,
            action="opt_out",
            fields=[1],
            params={},
            selection={"all": True, "statuses": []},
            requested_by="test",
            idempotency_key=None,
            request_hash="",
            correlation_id="",
            actor=PYTHON,
        )
        job = await jobs.insert_job(connection, new)
        planned = await plan_job(connection, job.key, chunk_size=2, max_lanes=1)
        assert planned.selected == 0
        for statuses, number in (([], 0), (None, 2)):
            contact_filter = ContactFilter(account_id, [1, 2, 3], statuses=statuses)
            found, _ = await contacts.find_contacts(
                connection, contact_filter, after=-MAX_ID - 1, limit=9
            )
            assert len(found) == number


async def test_no_query_parameter_may_be_empty(http, key, app, pool, settings):
    """On every route that reads, an empty parameter is an error: `status=` does not stand for any
    status, nor `tag=` for any contact.
    """
    await two_people(pool)
    job = (await http.post("/v1/jobs", headers=key, json=OPT_OUT)).json()["id"]
    parameter_count = 0
    for path, operations in app.openapi()["paths"].items():
        route = path.format(job_id=job, address="ann@x.example", hook_id=1, token="x")
        operation = operations.get("get", {})
        if not operation.get("security"):
            continue
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                parameter_count += 1
                answer = await http.get(route, headers=key, params={parameter["name"]: ""})
                assert answer.status_code == 422, (path, parameter["name"], answer.text)
    assert parameter_count > 10
