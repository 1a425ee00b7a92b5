"""Jobs with a list in a file: a form with the job in a part of its own."""

import json

import pytest

from tests.integration.test_http_jobs import two_people
from tests.kit.in_process import InProcessRunner
from tests.kit.recipients import problem_detail

OPT_OUT = {"action": "opt_out", "selection": {"all": True}}

OPT_IN = {"action": "opt_in", "selection": {"all": True}, "fields": ["email1", "email2"]}


@pytest.fixture
async def key(key_of):
    """Create a key with all scopes."""
    return await key_of()


@pytest.fixture
def works(pool, settings):
    """AccountDriver jobs as workers do."""
    return InProcessRunner(pool, settings, chunk_size=2, parallel=1)


def form(job, **files):
    """A job in a form, with lists in files."""
    parts = {name: (f"{name}.csv", content, "text/csv") for name, content in files.items()}
    return {"data": {"job": json.dumps(job)}, "files": parts}


LISTED = {"action": "opt_out", "params": {"note": "moved"}}


async def test_a_file_of_contacts_is_the_list_that_it_has(http, key, pool):
    """The job is that of the same ids in the body: in blocks, in order, each once, and one hash."""
    ids = list(range(25_001, 0, -1))
    keyed = {**key, "Idempotency-Key": "k"}
    text = "contact_id\n" + "\n".join(map(str, [*ids, 7, 7]))
    answer = await http.post("/v1/jobs", headers=keyed, **form(LISTED, contacts=text))
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["selection"], job["params"]["note"]) == ({"contacts": 25_001}, "moved")
    blocks = await pool.fetch("select block_no, contact_ids from job_contacts order by block_no")
    assert [block["block_no"] for block in blocks] == [0, 1, 2]
    assert [id_ for block in blocks for id_ in block["contact_ids"]] == sorted(ids)
    in_body = {**LISTED, "selection": {"contacts": ids}}
    again = await http.post("/v1/jobs", headers=keyed, json=in_body)
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    again = await http.post("/v1/jobs", headers=keyed, **form(LISTED, contacts=text))
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    fewer = await http.post("/v1/jobs", headers=keyed, **form(LISTED, contacts="1\n2"))
    problem_detail(fewer, 409, "idempotency-key-reused")
    assert await pool.fetchval("select count(*) from job_contacts") == 3


async def test_a_file_may_be_narrowed(http, key, pool, works):
    """What else is in the selection narrows the list of a file."""
    await two_people(pool)
    asked = {**LISTED, "selection": {"statuses": ["non_marketable"]}}
    content = '{"id": 1}\n{"id": 2}\n'
    answer = await http.post("/v1/jobs", headers=key, **form(asked, contacts=content))
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    await works.work(job)
    shown = (await http.get(f"/v1/jobs/{job}", headers=key)).json()
    assert (shown["state"], shown["selected"], shown["warning"]) == ("completed", 1, None)


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (form(LISTED, contacts="1\n2\nthree\n"), 422, "Line 3 of the contacts: 'three'"),
        (form(LISTED, people="1"), 422, "unknown part 'people'"),
        ({"files": {"contacts": ("c", "1")}}, 422, "a part is missing"),
        ({"data": {"job": "{}"}, "files": {"job": ("j", "{}")}}, 422, "a part is repeated"),
        ({"data": {"job": "{"}, "files": {"contacts": ("c", "1")}}, 400, "is not JSON"),
        ({"data": {"job": "7"}, "files": {"contacts": ("c", "1")}}, 422, "The part `job`"),
        (form({**LISTED, "account": "x"}, contacts="1"), 422, "`account`: Unknown field"),
        (form({**LISTED, "selection": {"contacts": [1]}}, contacts="1"), 422, "lists contacts as"),
        (form({**OPT_IN, "selection": {}}, contacts="1"), 422, "attested_by"),
    ],
)
async def test_a_wrong_form_is_refused_whole(http, key, pool, sent, status, said):
    """The line or the part that is wrong is named, and nothing is stored."""
    answer = await http.post("/v1/jobs", headers=key, **sent)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert await pool.fetchval("select count(*) from jobs") == 0


NOTED = '{"action": "opt_out", "params": {"note": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}}'


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("form_says", ["", "; charset=latin-1", "; charset=utf-16"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
async def test_the_job_of_a_form_is_text_in_utf_8(http, key, pool, encoding, form_says, as_file):
    """Whatever the form says of itself: other bytes would be kept as other words than were meant,
    and are refused.
    """
    named = '; filename="job.json"' if as_file else ""
    body = (
        b'--B\r\nContent-Disposition: form-data; name="job"'
        + named.encode()
        + b"\r\n\r\n"
        + NOTED.encode(encoding)
        + b'\r\n--B\r\nContent-Disposition: form-data; name="contacts"\r\n\r\n1\r\n--B--\r\n'
    )
    kind = {"Content-Type": f"multipart/form-data; boundary=B{form_says}"}
    answer = await http.post("/v1/jobs", headers={**key, **kind}, content=body)
    if encoding.startswith("utf-8"):
        assert answer.status_code == 202, answer.text
        assert answer.json()["params"]["note"] == "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    else:
        assert "is not text in UTF-8" in problem_detail(answer, 400, "malformed")
        assert await pool.fetchval("select count(*) from jobs") == 0


async def test_a_form_whose_type_is_long_is_refused(http, key, pool):
    """Before it is read, which takes time by the square of its length."""
    long = {"Content-Type": f'multipart/form-data; boundary=B; x="{";" * 1_000}'}
    answer = await http.post("/v1/jobs", headers={**key, **long}, content=b"--B--\r\n")
    assert "Content-Type cannot be read" in problem_detail(answer, 400, "malformed")
    assert await pool.fetchval("select count(*) from jobs") == 0
