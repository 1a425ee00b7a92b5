"""Lists against a real account: who is meant, who is unknown, and what is said about both."""

from pathlib import Path

import pytest

from producers.immediate_opt_out import opt_out_immediately
from producers.imports import submit_import
from producers.invalid_request import parse_request
from producers.plausibility import find_doubtful, find_implausible
from producers.submit import submit
from schemas.addresses import normalize_address
from schemas.errors import InvalidRequest
from tests.kit.factories import fill, statuses_of
from tests.kit.in_process import InProcessRunner
from tests.kit.recipients import problem_detail

FILES = Path(__file__).parents[1] / "files"
JOB = {"job": '{"action": "opt_out"}'}


@pytest.fixture
async def key(key_of):
    """Make a key of the default account with all scopes, as headers."""
    return await key_of()


@pytest.fixture
def works(pool, settings):
    """Return the worker that runs jobs in this process, two addresses a chunk."""
    return InProcessRunner(pool, settings, chunk_size=2, parallel=1)


@pytest.fixture
async def people(pool):
    """Five people of the default account; one has an address with an odd character."""
    account = await pool.fetchval("select id from accounts")
    addresses = {
        1: "ada@x.example",
        2: "ben@x.example",
        3: "*cy@x.example",
        4: "o'neil@x.example",
        5: "cy@x.example",
    }
    await fill(
        pool,
        account,
        {contact: {1: address} for contact, address in addresses.items()},
        dict.fromkeys(addresses.values(), ("single_opt_in", False)),
    )
    return account


async def submitted(http, key, content: str | bytes, **headers):
    """Post a job with an uploaded list; return the status and the parsed body."""
    answer = await http.post(
        "/v1/jobs", headers=key | headers, data=JOB, files={"addresses": ("list", content)}
    )
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    "text",
    [
        "4711|ada@x.example",
        "'ada@x.example",
        "=ada@x.example",
        "email=ada@x.example",
        "%20ada@x.example",
        "*ada@x.example",
        "#ada@x.example",
        "prvs=123=ada@x.example",
        # Nobody knows these, but a delimiter is no part of an address.
        "4711|zoe@x.example",
        "=zoe@x.example",
    ],
)
async def test_an_address_with_which_another_is_meant_is_no_new_one(
    http, key, pool, people, works, text
):
    """In a file, in a body and as a single opt-out it is refused with a suggestion, and nobody is
    opted out for it.
    """
    meant = text[text.index("@") - 3 :]
    status, job = await submitted(http, key, f"Email,Name\n{text},n\nben@x.example,n\n")
    assert (status, job["unknown"], job["import_rejections"]) == (202, 0, {"invalid_address": 1})
    refused = (await http.get(f"/v1/jobs/{job['id']}/import-rejections", headers=key)).json()[
        "import_rejections"
    ]
    assert refused[0]["line"] == 2
    assert f"{meant} is probably meant" in refused[0]["detail"]
    await works.work(job["id"])
    statuses = await statuses_of(pool, people)
    assert statuses["ben@x.example"] == ("admin", False)
    assert statuses["ada@x.example"] == ("single_opt_in", False)
    assert text not in statuses
    inline = {"action": "opt_out", "selection": {"addresses": ["ben@x.example", text]}}
    answer = await http.post("/v1/jobs", headers=key, json=inline)
    assert f"{meant} is probably meant" in problem_detail(answer, 422, "invalid")
    assert answer.json()["errors"][0]["location"] == "body.selection.addresses.1"
    single = {"address": text, "kind": "manual", "source": "shop"}
    answer = await http.post("/v1/opt-outs", headers=key, json=single)
    assert f"{meant} is probably meant" in problem_detail(answer, 422, "invalid")
    assert text not in await statuses_of(pool, people)


@pytest.mark.parametrize("text", ["*cy@x.example", "o'neil@x.example", "#zoe@x.example"])
async def test_an_address_that_the_account_knows_as_it_is_written_is_meant(
    http, key, pool, people, works, text
):
    """Odd characters are valid: what is known, or stands for nobody else, is that address."""
    _, job = await submitted(http, key, f"Email,Name\n{text},n\n")
    assert job["import_rejections"] == {}
    await works.work(job["id"])
    statuses = await statuses_of(pool, people)
    assert statuses[text] == ("admin", False)
    assert statuses["cy@x.example"] == ("single_opt_in", False)
    single = {"address": text, "kind": "manual", "source": "shop"}
    answer = await http.post("/v1/opt-outs", headers=key, json=single)
    assert answer.status_code == 200, answer.text


async def test_each_of_many_doubtful_addresses_is_reported(pool, people):
    """However many the account is asked about at a time, and wherever the known ones stand."""
    texts = [f"4711|n{number}@x.example" for number in range(2_500)]
    for place in (0, 999, 1_000, 2_499):
        texts[place] = "*cy@x.example"
    doubtful = find_doubtful([normalize_address(text) for text in texts])
    assert len(doubtful) == len(texts)
    refused = await find_implausible(pool, people, doubtful)
    assert [each.line for each in refused] == [
        place for place, text in enumerate(texts) if text != "*cy@x.example"
    ]


async def test_what_a_recipient_did_is_meant_as_it_is_written(pool, settings, people):
    """A link, or a hook, names the address that mail went to: that one is opted out."""
    request = parse_request(
        {
            "action": "opt_out",
            "selection": {"addresses": ["*ada@x.example"]},
            "params": {"kind": "manual"},
            "requested_by": "a link",
        }
    )
    with pytest.raises(InvalidRequest, match="is probably meant"):
        await submit(pool, settings, request)
    assert (await submit(pool, settings, request, is_verbatim=True)).created
    await opt_out_immediately(pool, settings, request)
    assert (await statuses_of(pool, people))["*ada@x.example"] == ("manual", False)


async def test_an_answer_tells_how_many_addresses_were_unknown(http, key, people):
    """In a file and in a body, for a plan, and later as well."""
    _, job = await submitted(http, key, "ada@x.example\nzoe@x.example\nyan@x.example\n")
    assert job["unknown"] == 2
    assert job["selection"] == {"addresses": 3}
    inline = {
        "action": "opt_out",
        "mode": "plan",
        "selection": {"addresses": ["ben@x.example", "zoe@x.example"]},
    }
    plan = await http.post("/v1/jobs", headers=key | {"Prefer": "wait=0"}, json=inline)
    assert plan.json()["unknown"] == 1
    shown = (await http.get(f"/v1/jobs/{job['id']}", headers=key)).json()
    assert shown["unknown"] == 2
    by_id = {"action": "opt_out", "selection": {"contacts": [1]}}
    assert (await http.post("/v1/jobs", headers=key, json=by_id)).json()["unknown"] is None
    single = {"address": "new@x.example", "kind": "manual", "source": "shop"}
    done = (await http.post("/v1/opt-outs", headers=key, json=single)).json()
    told = (await http.get(f"/v1/jobs/{done['job_id']}", headers=key)).json()
    assert told["unknown"] == 1


async def test_a_declared_charset_is_read(http, key, pool, people, works):
    """The part's Content-Type names it; one that is unknown refuses the list."""
    content = "Name,Email\nJörg,jörg@x.example\n".encode("cp1252")

    async def sent(charset):
        files = {"addresses": ("list.csv", content, f"text/csv; charset={charset}")}
        return await http.post("/v1/jobs", headers=key, data=JOB, files=files)

    job = (await sent("windows-1252")).json()
    await works.work(job["id"])
    assert (await statuses_of(pool, people))["jörg@x.example"] == ("admin", False)
    assert "klingon" in problem_detail(await sent("klingon"), 422, "invalid")
    assert "'hz' is not supported" in problem_detail(await sent("hz"), 422, "invalid")
    assert "not text in utf-16" in problem_detail(await sent("utf-16"), 422, "invalid")
    assert "no email address" in problem_detail(await sent("utf-8"), 422, "invalid")


@pytest.mark.parametrize(
    "content", [b'"1,234"\n', b"1,234\n", b"7\n1e3\n", b"42.0", b"+5\n", b"", b"id\n"]
)
async def test_a_list_of_ids_that_says_something_else_is_refused(http, key, pool, content):
    """Contacts 1 and 234 are not what `1,234` in quotation marks means; an empty list is nobody."""
    answer = await http.post(
        "/v1/jobs", headers=key, data=JOB, files={"contacts": ("ids.csv", content)}
    )
    problem_detail(answer, 422, "invalid")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_evidence_in_another_encoding_is_refused(http, key, pool):
    """A body, or a part, that is not UTF-8 is not stored with replacement characters."""
    evidence = (FILES / "evidence-cp1252.json").read_bytes()
    body = b'{"action": "opt_in", "selection": {"all": true}, "evidence": ' + evidence + b"}"
    headers = key | {"Content-Type": "application/json"}
    problem_detail(await http.post("/v1/jobs", headers=headers, content=body), 400, "malformed")
    part = b'{"action": "opt_in", "evidence": ' + evidence + b"}"
    answer = await http.post(
        "/v1/jobs", headers=key, files={"job": ("job", part), "contacts": ("ids", b"1\n")}
    )
    assert "not text in UTF-8" in problem_detail(answer, 400, "malformed")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_an_import_states_statuses_and_tells_what_it_ignores(pool, settings, works):
    """`Unsubscribed: yes` opts the person out at each address, whatever the permission."""
    submitted = await submit_import(
        pool,
        settings,
        file=FILES / "status-column.csv",
        permission=True,
        requested_by="the test",
    )
    assert submitted.ignored_columns == ()
    await works.work(submitted.job_id)
    account = await pool.fetchval("select id from accounts")
    statuses = await statuses_of(pool, account)
    assert statuses == {
        "pia@hub.example.com": ("manual", False),
        "pia.work@hub.example.org": ("manual", False),
    }
    other = await submit_import(
        pool,
        settings,
        file=FILES / "mailchimp-address.csv",
        permission=True,
        requested_by="the test",
    )
    assert other.ignored_columns == ("Address", "Phone Number", "Birthday")
