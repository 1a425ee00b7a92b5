"""Jobs with a list in a file: a multipart form with the job in one part and the list in another."""

import json

import pytest

from tests.integration.test_http_jobs import two_people
from tests.kit.in_process import InProcessRunner
from tests.kit.recipients import problem_detail

OPT_OUT = {"action": "opt_out", "selection": {"all": True}}

OPT_IN = {"action": "opt_in", "selection": {"all": True}, "fields": ["email1", "email2"]}


@pytest.fixture
async def key(key_of):
    """Create a key with all scopes; return its headers."""
    return await key_of()


@pytest.fixture
def runner(pool, settings):
    """Return a runner that works on jobs as workers do."""
    return InProcessRunner(pool, settings, chunk_size=2, parallel=1)


def form(job, **files):
    """Return the arguments that post a job in a form, with lists as files."""
    parts = {name: (f"{name}.csv", content, "text/csv") for name, content in files.items()}
    return {"data": {"job": json.dumps(job)}, "files": parts}


LISTED = {"action": "opt_out", "params": {"note": "moved"}}


async def test_a_file_of_ids_is_like_a_list_in_the_body(http, key, pool):
    """A file of ids is the same job as these ids in the body: sorted, without duplicates, with one
    hash.
    """
    ids = list(range(25_001, 0, -1))
    headers = {**key, "Idempotency-Key": "k"}
    text = "contact_id\n" + "\n".join(map(str, [*ids, 7, 7]))
    answer = await http.post("/v1/jobs", headers=headers, **form(LISTED, contacts=text))
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["selection"], job["params"]["note"]) == ({"contacts": 25_001}, "moved")
    blocks = await pool.fetch("select block_no, contact_ids from job_contacts order by block_no")
    assert [block["block_no"] for block in blocks] == [0, 1, 2]
    assert [id_ for block in blocks for id_ in block["contact_ids"]] == sorted(ids)
    in_body = {**LISTED, "selection": {"contacts": ids}}
    again = await http.post("/v1/jobs", headers=headers, json=in_body)
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    again = await http.post("/v1/jobs", headers=headers, **form(LISTED, contacts=text))
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    fewer = await http.post("/v1/jobs", headers=headers, **form(LISTED, contacts="1\n2"))
    problem_detail(fewer, 409, "idempotency-key-reused")
    assert await pool.fetchval("select count(*) from job_contacts") == 3


async def test_a_selection_narrows_a_file(http, key, pool, runner):
    """Other conditions in the selection narrow the list of a file."""
    await two_people(pool)
    body = {**LISTED, "selection": {"statuses": ["non_marketable"]}}
    content = '{"id": 1}\n{"id": 2}\n'
    answer = await http.post("/v1/jobs", headers=key, **form(body, contacts=content))
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    await runner.work(job)
    shown = (await http.get(f"/v1/jobs/{job}", headers=key)).json()
    assert (shown["state"], shown["selected"], shown["warning"]) == ("completed", 1, None)


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (form(LISTED, contacts="1\n2\nthree\n"), 422, "Line 3 of the contacts: 'three'"),
        (form(LISTED, people="1"), 422, "unknown part 'people'"),
        ({"files": {"contacts": ("c", "1")}}, 422, "the part `job` is missing"),
        (
            {"files": {"job": ("j", json.dumps(LISTED))}},
            422,
            "the part `contacts` or `addresses` is missing",
        ),
        (form(LISTED, contacts="1", addresses="a@x.example"), 422, "it has two lists, and"),
        (
            {"files": [("job", ("j", "{}")), *[("contacts", ("c", "1"))] * 2]},
            422,
            "it has more than 2 parts. Send the part `job` in JSON, and a list in a file as",
        ),
        (
            form({**LISTED, "params": {"note": 1_000_000 * "x"}}, contacts="1"),
            413,
            "or a list that is not sent as a file, has more than 1,000,000 bytes.",
        ),
        (
            {
                "files": {
                    "job": ("j", f'{{"x": "{1_000_000 * "x"}"}}'),
                    "contacts": ("c", "1"),
                }
            },
            413,
            "The part `job` has more than 1,000,000 bytes.",
        ),
        (
            {
                "headers": {"Content-Type": "multipart/form-data; boundary=B"},
                "content": b"--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n--B--\r\n",
            },
            422,
            "a part has no name",
        ),
        (
            {"headers": {"Content-Type": "multipart/form-data"}, "content": b"--B--\r\n"},
            400,
            "The form's Content-Type cannot be read.",
        ),
        ({"data": {"job": "{}"}, "files": {"job": ("j", "{}")}}, 422, "a part is repeated"),
        ({"data": {"job": "{"}, "files": {"contacts": ("c", "1")}}, 400, "is not JSON"),
        ({"data": {"job": "7"}, "files": {"contacts": ("c", "1")}}, 422, "The part `job`"),
        (form({**LISTED, "account": "x"}, contacts="1"), 422, "`account`: Unknown field"),
        (form({**LISTED, "selection": {"contacts": [1]}}, contacts="1"), 422, "lists contacts as"),
        (form({**OPT_IN, "selection": {}}, contacts="1"), 422, "attested_by"),
    ],
)
async def test_an_invalid_form_is_rejected(http, key, pool, arguments, status, expected):
    """The error names the wrong line or part, and nothing is stored."""
    arguments = arguments | {"headers": key | arguments.get("headers", {})}
    answer = await http.post("/v1/jobs", **arguments)
    assert answer.status_code == status, answer.text
    assert expected in answer.json()["detail"]
    assert await pool.fetchval("select count(*) from jobs") == 0


JOB_WITH_NOTE = (
    '{"action": "opt_out", "params": {"note": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}}'
)


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("declared", ["", "; charset=latin-1", "; charset=utf-16"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
async def test_the_job_in_a_form_must_be_utf_8(http, key, pool, encoding, declared, as_file):
    """The job in a form must be UTF-8, whatever charset the form declares. Other bytes could change
    the text, and are rejected.
    """
    filename = '; filename="job.json"' if as_file else ""
    body = (
        b'--B\r\nContent-Disposition: form-data; name="job"'
        + filename.encode()
        + b"\r\n\r\n"
        + JOB_WITH_NOTE.encode(encoding)
        + b'\r\n--B\r\nContent-Disposition: form-data; name="contacts"\r\n\r\n1\r\n--B--\r\n'
    )
    content_type = {"Content-Type": f"multipart/form-data; boundary=B{declared}"}
    answer = await http.post("/v1/jobs", headers={**key, **content_type}, content=body)
    if encoding.startswith("utf-8"):
        assert answer.status_code == 202, answer.text
        assert answer.json()["params"]["note"] == "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    else:
        assert "is not text in UTF-8" in problem_detail(answer, 400, "malformed")
        assert await pool.fetchval("select count(*) from jobs") == 0


async def test_a_form_with_a_long_content_type_is_rejected(http, key, pool):
    """A long Content-Type is rejected unread, since parsing takes quadratic time."""
    content_type = {"Content-Type": f'multipart/form-data; boundary=B; x="{";" * 1_000}'}
    answer = await http.post("/v1/jobs", headers={**key, **content_type}, content=b"--B--\r\n")
    assert "Content-Type cannot be read" in problem_detail(answer, 400, "malformed")
    assert await pool.fetchval("select count(*) from jobs") == 0
