"""Problems use our own words, whichever part of a request is wrong."""

import pytest

from tests.kit.wording import find_wording_faults

IN_JSON = {"Content-Type": "application/json"}
OPT_OUT = {"action": "opt_out", "selection": {"all": True}}


@pytest.fixture
async def key(key_of):
    """Create a key of the default account with all scopes; return its headers."""
    return await key_of()


@pytest.mark.parametrize(
    ("method", "path", "arguments", "expected"),
    [
        (
            "GET",
            "/v1/jobs?limit=0",
            {},
            "the query parameter `limit`: Give 1 or more",
        ),
        ("GET", "/v1/jobs?limit=x", {}, "the query parameter `limit`: Give a whole number"),
        ("GET", "/v1/jobs?state=odd", {}, "the query parameter `state`: Give one of"),
        ("GET", f"/v1/jobs?{'state=x&' * 5_000}", {}, "more than 100 parameters"),
        (
            "GET",
            "/v1/jobs?action=A!",
            {},
            "parameter `action`: Give text of the form",
        ),
        ("GET", "/v1/jobs?cursor=odd", {}, "Invalid cursor."),
        ("GET", "/v1/jobs?odd=1", {}, "Unknown query parameter: 'odd'."),
        ("GET", "/v1/jobs/x", {}, "This job does not exist."),
        ("GET", "/v1/jobs?limit=1_0", {}, "the query parameter `limit`: Give a whole number"),
        ("GET", "/v1/activity?job_id=%2B1", {}, "parameter `job_id`: Give a whole number"),
        ("GET", "/v1/contacts?import=%D9%A3", {}, "`import`: Give a whole number"),
        ("GET", "/v1/contacts?status=odd", {}, "`status`"),
        ("GET", "/v1/contacts?tag=", {}, "`tag`"),
        ("GET", "/v1/addresses/odd", {}, ""),
        ("GET", "/v1/jobs/1/results?outcome=odd", {}, "`outcome`: Give one of"),
        ("POST", "/v1/jobs", {"json": {}}, "`action`: It is required, and missing."),
        ("POST", "/v1/jobs", {"json": []}, "Give an object with names and values."),
        ("POST", "/v1/jobs", {"json": {**OPT_OUT, "fields": ["email4"]}}, "the first of `fields`"),
        ("POST", "/v1/jobs", {"json": {**OPT_OUT, "odd": 1}}, "`odd`: Unknown field. "),
        ("POST", "/v1/jobs", {"json": {**OPT_OUT, "params": {"odd": 1}}}, "`params.odd`"),
        (
            "POST",
            "/v1/jobs",
            {"content": b"{", "headers": {"content-type": "application/json"}},
            "",
        ),
        ("POST", "/v1/jobs", {"json": OPT_OUT, "headers": {"Idempotency-Key": ""}}, "the header"),
        ("POST", "/v1/jobs/1/apply", {"json": {"expected": {"applied": -1}}}, "`expected.applied`"),
        ("POST", "/v1/opt-outs", {"json": {"address": 1}}, "`address`: Give text (given: 1)."),
        ("POST", "/v1/opt-outs", {"json": {"address": "a@x.example"}}, "`source`"),
        (
            *("POST", "/v1/opt-outs", {"json": {"source": ""}}),
            "`source`: It is empty. Give text of the form ^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$.",
        ),
        ("POST", "/v1/jobs", {"json": {"action": ""}}, "`action`: It is empty. Give some text."),
        (
            *("POST", "/v1/jobs", {"json": {**OPT_OUT, "requested_by": ""}}),
            "`requested_by`: It is empty. Give some text, or leave it out.",
        ),
        (
            *("POST", "/v1/jobs/1/apply", {"json": {"expected": {"applied": ""}}}),
            "`expected.applied`: It is empty. Give a whole number.",
        ),
        (
            *("POST", "/v1/jobs", {"json": {**OPT_OUT, "selection": {"tag": "a\0b"}}}),
            "The request was rejected and nothing was stored:\n  `selection.tag`: It contains a",
        ),
        ("PUT", "/v1/jobs", {"json": {}}, "Use GET, POST."),
        ("GET", "/v1/odd", {}, "This path does not exist. Nothing was done."),
    ],
)
async def test_a_problem_uses_our_words(http, key, method, path, arguments, expected):
    """The problem has no words of pydantic and ends with one full stop."""
    arguments = {**arguments, "headers": {**key, **arguments.get("headers", {})}}
    answer = await http.request(method, path, **arguments)
    assert 400 <= answer.status_code < 500
    problem = answer.json()
    assert expected in problem["detail"]
    for text in (problem["detail"], *(each["message"] for each in problem.get("errors", ()))):
        assert find_wording_faults(text) == []


async def test_errors_have_a_location_for_programs(http, key):
    """What `detail` calls the first of `fields` is `body.fields.0` in `errors`."""
    answer = await http.post("/v1/jobs", json={**OPT_OUT, "fields": ["email4"]}, headers=key)
    (error,) = answer.json()["errors"]
    assert error["location"] == "body.fields.0"


async def test_jobs_are_listed_by_several_states(http, key):
    """`state` can be repeated."""
    for state in ("pause", "cancel", None):
        job = (await http.post("/v1/jobs", json=OPT_OUT, headers=key)).json()["id"]
        if state:
            await http.post(f"/v1/jobs/{job}/{state}", headers=key)
    found = await http.get("/v1/jobs?state=paused&state=cancelled", headers=key)
    assert [job["state"] for job in found.json()["jobs"]] == ["cancelled", "paused"]
    found = await http.get("/v1/jobs?state=completed", headers=key)
    assert found.json() == {"jobs": [], "next": None}
