"""Address lists against a real account: which addresses match, which are unknown or suspicious."""

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
    """Create a key of the default account with all scopes; return its headers."""
    return await key_of()


@pytest.fixture
def runner(pool, settings):
    """Return a runner that works on jobs in this process, two addresses a chunk."""
    return InProcessRunner(pool, settings, chunk_size=2, parallel=1)


@pytest.fixture
async def account_id(pool):
    """Create five contacts, two with unusual characters; return the default account's id."""
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


async def submit_list(http, key, content: str | bytes, **headers):
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
        # The account knows neither of these, but a delimiter is no part of an address.
        "4711|zoe@x.example",
        "=zoe@x.example",
    ],
)
async def test_a_misspelled_address_is_not_added(http, key, pool, account_id, runner, text):
    """A text around another address is rejected in a file, in a body and as a single opt-out. The
    error suggests the address, and neither address is opted out.
    """
    meant = text[text.index("@") - 3 :]
    status, job = await submit_list(http, key, f"Email,Name\n{text},n\nben@x.example,n\n")
    assert (status, job["unknown"], job["import_rejections"]) == (202, 0, {"invalid_address": 1})
    refused = (await http.get(f"/v1/jobs/{job['id']}/import-rejections", headers=key)).json()[
        "import_rejections"
    ]
    assert refused[0]["line"] == 2
    assert f"{meant} is probably meant" in refused[0]["detail"]
    await runner.work(job["id"])
    statuses = await statuses_of(pool, account_id)
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
    assert text not in await statuses_of(pool, account_id)


@pytest.mark.parametrize("text", ["*cy@x.example", "o'neil@x.example", "#zoe@x.example"])
async def test_a_known_address_with_unusual_characters_is_accepted(
    http, key, pool, account_id, runner, text
):
    """Unusual characters are valid if the account knows that address, or if no other is meant."""
    _, job = await submit_list(http, key, f"Email,Name\n{text},n\n")
    assert job["import_rejections"] == {}
    await runner.work(job["id"])
    statuses = await statuses_of(pool, account_id)
    assert statuses[text] == ("admin", False)
    assert statuses["cy@x.example"] == ("single_opt_in", False)
    single = {"address": text, "kind": "manual", "source": "shop"}
    answer = await http.post("/v1/opt-outs", headers=key, json=single)
    assert answer.status_code == 200, answer.text


async def test_each_of_many_doubtful_addresses_is_reported(pool, account_id):
    """All doubtful addresses are checked, however many batches they need. The position of known
    ones makes no difference.
    """
    texts = [f"4711|n{number}@x.example" for number in range(2_500)]
    for index in (0, 999, 1_000, 2_499):
        texts[index] = "*cy@x.example"
    doubtful = find_doubtful([normalize_address(text) for text in texts])
    assert len(doubtful) == len(texts)
    rejected = await find_implausible(pool, account_id, doubtful)
    assert [each.line for each in rejected] == [
        index for index, text in enumerate(texts) if text != "*cy@x.example"
    ]


async def test_an_opt_out_by_a_recipient_is_applied_verbatim(pool, settings, account_id):
    """A link or hook names the address that the mail was sent to, and exactly this one is opted
    out.
    """
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
    assert (await statuses_of(pool, account_id))["*ada@x.example"] == ("manual", False)


async def test_the_number_of_unknown_addresses_is_reported(http, key, account_id):
    """A job from a file or a body, a plan and a single opt-out report the unknown addresses, also
    later.
    """
    _, job = await submit_list(http, key, "ada@x.example\nzoe@x.example\nyan@x.example\n")
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
    stored = (await http.get(f"/v1/jobs/{done['job_id']}", headers=key)).json()
    assert stored["unknown"] == 1


async def test_a_declared_charset_is_read(http, key, pool, account_id, runner):
    """The part's Content-Type names the charset; a list in an unknown charset is rejected."""
    content = "Name,Email\nJörg,jörg@x.example\n".encode("cp1252")

    async def post_list(charset):
        files = {"addresses": ("list.csv", content, f"text/csv; charset={charset}")}
        return await http.post("/v1/jobs", headers=key, data=JOB, files=files)

    job = (await post_list("windows-1252")).json()
    await runner.work(job["id"])
    assert (await statuses_of(pool, account_id))["jörg@x.example"] == ("admin", False)
    assert "klingon" in problem_detail(await post_list("klingon"), 422, "invalid")
    assert "'hz' is not supported" in problem_detail(await post_list("hz"), 422, "invalid")
    assert "not text in utf-16" in problem_detail(await post_list("utf-16"), 422, "invalid")
    assert "no email address" in problem_detail(await post_list("utf-8"), 422, "invalid")


@pytest.mark.parametrize(
    "content", [b'"1,234"\n', b"1,234\n", b"7\n1e3\n", b"42.0", b"+5\n", b"", b"id\n"]
)
async def test_a_list_of_ids_with_other_content_is_rejected(http, key, pool, content):
    """A list of ids with other content is rejected. `"1,234"` in quotation marks does not mean
    contacts 1 and 234, and an empty list is an error.
    """
    answer = await http.post(
        "/v1/jobs", headers=key, data=JOB, files={"contacts": ("ids.csv", content)}
    )
    problem_detail(answer, 422, "invalid")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_evidence_in_another_encoding_is_rejected(http, key, pool):
    """A body or a part that is not UTF-8 is rejected, not stored with replacement characters."""
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


async def test_an_import_sets_statuses_and_reports_ignored_columns(pool, settings, runner):
    """A row with `Unsubscribed: yes` opts out each of its addresses, whatever the permission. The
    answer names the ignored columns.
    """
    submitted = await submit_import(
        pool,
        settings,
        file=FILES / "status-column.csv",
        permission=True,
        requested_by="the test",
    )
    assert submitted.ignored_columns == ()
    await runner.work(submitted.job_id)
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
