"""Every failure over HTTP is a problem, tells nothing that it should not, and has one line."""

import json
import re
from typing import Annotated

import asyncpg
import httpx
import pytest
import structlog
from fastapi import FastAPI, Header, Request
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from runtime import logs
from runtime.settings import Settings
from schemas.errors import (
    DatabaseUnreachable,
    QueueUnreachable,
    ServerStartError,
    SettingsError,
    SluiceError,
)
from web import problems
from web.app import ROUTERS, create_app
from web.auth import JobsReader
from web.middleware import timeout
from web.problems import ProblemKind
from web.state import State

SECRET = "anna@example.org, of whom nobody may read in a log"


class Asked(BaseModel, extra="forbid"):
    """What the test's own routes accept as a body."""

    count: int
    name: str = ""


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """The application with some routes more, each of which fails in its way."""
    app = create_app(settings)

    @app.get("/fails/unforeseen")
    async def unforeseen(_caller: JobsReader) -> None:
        raise KeyError(SECRET)

    @app.get("/fails/midway")
    async def midway() -> StreamingResponse:
        async def parts():
            yield b"one"
            raise KeyError(SECRET)

        return StreamingResponse(parts())

    @app.get("/fails/postgres")
    async def postgres() -> None:
        raise asyncpg.ConnectionDoesNotExistError(SECRET)

    @app.post("/fails/slow")
    @app.get("/fails/slow")
    async def slow(state: State, request: Request) -> None:
        await request.body()
        async with state.pool.acquire() as connection:
            await connection.execute("select pg_sleep(60)")

    @app.post("/asked/{number}")
    async def asked(
        number: int, body: Asked, most: int = 1, secret: Annotated[int, Header()] = 0
    ) -> dict[str, int]:
        return {"count": number + body.count + most + secret}

    return app


@pytest.fixture
async def http(app: FastAPI):
    """Return a client of the application with the test's own routes."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sluice.test") as client:
            yield client


@pytest.fixture
def lines(capfd, settings: Settings):
    """Reads the lines that were logged since it was last asked."""
    before = structlog.get_config()
    logs.configure(settings.model_copy(update={"log_format": "json"}))

    def read() -> list[dict]:
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    yield read
    structlog.configure(**before)


def problem(answer: httpx.Response) -> dict:
    """The problem that the answer is, which names its status and has all its members."""
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == answer.status_code
    assert told.keys() >= {"type", "title", "status", "detail"}
    return told


async def test_what_nobody_foresaw_is_told_once_and_without_its_text(http, key_of, lines):
    """500 with the correlation id; one line with the kind and the place, and the request's own."""
    headers = await key_of() | {"X-Correlation-Id": "by-this-it-is-found"}
    answer = await http.get("/fails/unforeseen", headers=headers)
    assert answer.status_code == 500
    told = problem(answer)
    assert (told["type"], told["correlation_id"]) == (
        "urn:sluice:problem:internal",
        "by-this-it-is-found",
    )
    _, failed, answered = lines()
    assert (failed["event"], failed["level"], failed["error"]) == (
        "request.failed",
        "error",
        "KeyError",
    )
    assert "in unforeseen" in failed["exception"]
    assert (answered["event"], answered["http_status"]) == ("request.answered", 500)
    assert {line["correlation_id"] for line in (failed, answered)} == {"by-this-it-is-found"}
    token = headers["Authorization"].partition(" ")[2]
    for text in (SECRET, token, "anna"):
        assert text not in answer.text + json.dumps([failed, answered])


async def test_a_stream_that_breaks_has_no_end(app: FastAPI, lines):
    """What was sent stays without its last part, so that nobody takes it for the whole."""
    sent = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/fails/midway", "headers": []}
    await app({**scope, "query_string": b"", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert [part.get("more_body") for part in sent[1:]] == [True]
    failed, answered = lines()
    assert (failed["event"], failed["error"]) == ("request.failed", "KeyError")
    assert (answered["event"], answered["http_status"]) == ("request.answered", 200)


async def test_a_postgres_that_is_away_is_a_moment_s_trouble(http, lines):
    """503 with the time to come again, and nothing of the driver's text."""
    answer = await http.get("/fails/postgres")
    assert (answer.status_code, problem(answer)["type"]) == (503, "urn:sluice:problem:unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert SECRET not in answer.text
    assert [line["level"] for line in lines()] == ["info"]


async def test_an_answer_is_not_waited_for_without_end(http, monkeypatch, lines):
    """503 after the limit; the connection is free again for the next."""
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 0.1)
    for method, body in (("GET", None), ("POST", b"x")) * 4:
        assert (await http.request(method, "/fails/slow", content=body)).status_code == 503
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 20)
    assert (await http.get("/readyz")).status_code == 200
    assert {line["level"] for line in lines()} == {"info"}


async def test_paths_and_methods_that_there_are_not(http):
    """404, and 405 with what there is, also where two routes share a path."""
    assert problem(await http.get("/nothing"))["type"] == "urn:sluice:problem:not-found"
    for path in ("/healthz/", "/docs", "/redoc", "/hirefire", "//healthz"):
        assert (await http.get(path)).status_code == 404
    for path, allow in (("/healthz", "GET, HEAD"), ("/v1/jobs", "GET, POST")):
        answer = await http.request("DELETE", path)
        assert problem(answer)["type"] == "urn:sluice:problem:method-not-allowed"
        assert (answer.status_code, answer.headers["Allow"]) == (405, allow)


async def test_each_mistake_is_told_with_its_place(http):
    """All at once, in `mistakes` for programs and in `detail` for people; long values shortened,
    and those of headers and paths, where secrets are, not repeated.
    """
    answer = await http.post(
        "/asked/hidden1?most=y", json={"count": "z" * 500, "nme": 1}, headers={"secret": "hidden2"}
    )
    told = problem(answer)
    assert (answer.status_code, told["type"]) == (422, "urn:sluice:problem:invalid")
    wrong = {mistake["location"]: mistake["message"] for mistake in told["errors"]}
    assert wrong.keys() == {
        "path.number",
        "query.most",
        "header.secret",
        "body.count",
        "body.nme",
    }
    assert "hidden" not in answer.text
    assert "'y'" in wrong["query.most"]
    assert "Unknown field." in wrong["body.nme"]
    assert "zzz" in wrong["body.count"]
    assert len(answer.text) < 2_000
    for place in (
        *("the path's `number`", "the query parameter `most`", "the header `secret`"),
        *("`count`", "`nme`"),
    ):
        assert f"\n  {place}: " in told["detail"]
    right = await http.post("/asked/1?most=2", json={"count": 3})
    assert right.json() == {"count": 6}


def test_no_route_leaves_its_body_to_the_framework():
    """It would parse JSON of any size, take NaN and names given twice, and build an error for each
    value: every route reads its body by `web.request_body`, or as a form or file.
    """
    routes = [route for router in ROUTERS for route in router.routes]
    assert all(isinstance(route, APIRoute) for route in routes)
    assert len(routes) > 20
    assert [route.path for route in routes if route.body_field is not None] == []


async def test_query_parameters_that_there_are_not_are_refused_by_name(http, key_of):
    """By every route that needs a key; the answer says which there are. Links in mail and probes
    have some added to them that mean nothing.
    """
    headers = await key_of()
    for path, there in (("/v1/jobs/7?verbose=1", "no parameters"), ("/v1/jobs?Limit=1", "cursor")):
        answer = await http.get(path, headers=headers)
        told = problem(answer)
        assert answer.status_code == 422
        assert there in told["detail"]
        assert len(told["errors"]) == 1
    many = "&".join(f"{'x' * 300}{n}=1" for n in range(100))
    assert len((await http.get(f"/v1/jobs?{many}", headers=headers)).text) < 1_000
    assert (await http.get("/healthz?verbose=1")).status_code == 200
    nul = await http.get("/v1/jobs?action=a%00b", headers=headers)
    assert (nul.status_code, problem(nul)["type"]) == (400, "urn:sluice:problem:malformed")


async def test_every_answer_says_how_it_is_to_be_taken(http, key_of):
    """Those of routes, and those of failures of every kind."""
    http.headers.update(await key_of())
    paths = ("/healthz", "/nothing", "/fails/postgres", "/fails/unforeseen", "/openapi.json")
    for answer in [await http.get(path) for path in paths]:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Correlation-Id"]
        assert "Server" not in answer.headers


@pytest.mark.parametrize("name", ["a b", "x" * 101, 'a"b', "Käse", ""])
async def test_a_correlation_id_that_is_no_plain_word_is_not_taken_over(http, name, lines):
    """It would stand in every line of a job."""
    answer = await http.get("/healthz", headers={"X-Correlation-Id": name.encode("latin-1")})
    (line,) = lines()
    assert answer.headers["X-Correlation-Id"] == line["correlation_id"] != name


async def test_no_line_tells_a_path_a_query_or_a_key(http, key_of, lines):
    """The route's pattern stands for the path."""
    headers = await key_of()
    await http.get(f"/v1/jobs/{SECRET}?token={SECRET}", headers=headers)
    await http.get(f"/{SECRET}", headers=headers)
    _, first, second = lines()
    assert (first["route"], second["route"]) == ("/v1/jobs/{job_id}", None)
    assert first["key"] is None or first["key"] > 0
    token = headers["Authorization"].partition("_")[2]
    for text in ("anna", "nobody", token):
        assert text not in json.dumps([first, second])


def test_types_of_problems_are_told_apart() -> None:
    """No two kinds have one name, and each is the caller's fault or the service's."""
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, ProblemKind)]
    assert len({kind.type for kind in kinds}) == len(kinds)
    assert all(400 <= kind.status < 600 for kind in kinds)


@pytest.mark.parametrize(
    "family", [DatabaseUnreachable, QueueUnreachable, ServerStartError, SettingsError]
)
def test_servers_and_settings_are_not_named_to_callers(family) -> None:
    """Their errors are for who runs the service."""
    told = problems.to_problem(family("Postgres at db.internal:5432 cannot be used"))
    assert (told.kind, "db.internal" in str(told)) == (problems.UNAVAILABLE, False)


def test_every_error_of_sluice_is_some_problem() -> None:
    """Also those that nobody has thought of here."""

    def families(of: type[SluiceError]) -> list[type[SluiceError]]:
        return [of, *(below for each in of.__subclasses__() for below in families(each))]

    for family in families(SluiceError):
        error = family.__new__(family, "text")
        error.args = ("text",)
        for name in ("prompts", "field_errors"):
            setattr(error, name, ())
        assert problems.to_problem(error)


ODD_IDS = (
    "+1",
    "1_0",
    "%201",
    "1%20",
    "1%0A",
    "01",
    "1.0",
    "0x1",
    "-1",
    "x",
    "%D9%A3",
    "9" * 5_000,
)


async def test_an_id_has_one_way_to_be_written(http, key_of, app):
    """In every path that has one: what is not an id as we write it is answered like one that there
    is not, whatever Python would read it as.
    """
    key = await key_of()
    asked = 0
    for path, operations in app.openapi()["paths"].items():
        (name,) = re.findall(r"\{(\w+_id)\}", path) or [None]
        for method in operations if name else ():
            unknown = await http.request(method, path.format(**{name: 4711}), headers=key)
            assert unknown.status_code in {401, 404, 415}, (path, unknown.text)
            for odd in ODD_IDS:
                asked += 1
                answer = await http.request(method, path.format(**{name: odd}), headers=key)
                assert answer.status_code == unknown.status_code, (path, odd, answer.text)
                assert answer.json()["type"] == unknown.json()["type"]
    assert asked > 8 * len(ODD_IDS)
