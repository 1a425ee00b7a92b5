"""Every HTTP error is a problem, discloses no secret, and is logged in one line."""

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
from web.routes.jobs import IdempotencyKey
from web.state import State

SECRET = "anna@example.org, of whom nobody may read in a log"


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """Return the application with additional routes, each of which fails in its own way."""
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

    @app.post("/fails/keyed/{how}")
    async def keyed(how: str, state: State, idempotency_key: IdempotencyKey = None) -> None:
        if how == "slow":
            async with state.pool.acquire() as connection:
                await connection.execute("select pg_sleep(60)")
        raise KeyError if how == "unforeseen" else asyncpg.ConnectionDoesNotExistError

    @app.post("/fails/slow")
    @app.get("/fails/slow")
    async def slow(state: State, request: Request) -> None:
        await request.body()
        async with state.pool.acquire() as connection:
            await connection.execute("select pg_sleep(60)")

    @app.get("/asked/{number}")
    async def echo(number: int, most: int = 1, secret: Annotated[int, Header()] = 0) -> int:
        return number + most + secret

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
    """Return a function that reads the lines logged since its last call."""
    before = structlog.get_config()
    logs.configure(settings.model_copy(update={"log_format": "json"}))

    def read() -> list[dict]:
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    yield read
    structlog.configure(**before)


def problem_of(answer: httpx.Response) -> dict:
    """Require that the response is a problem with all its members, and return it."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body.keys() >= {"type", "title", "status", "detail"}
    return body


async def test_an_unexpected_error_is_logged_once_without_its_text(http, key_of, lines):
    """An unexpected error gets 500 with the correlation id. It is logged once, with its type and
    place but without its text.
    """
    headers = await key_of() | {"X-Correlation-Id": "by-this-it-is-found"}
    answer = await http.get("/fails/unforeseen", headers=headers)
    assert answer.status_code == 500
    problem = problem_of(answer)
    assert (problem["type"], problem["correlation_id"]) == (
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


async def test_a_failed_stream_is_not_ended_regularly(app: FastAPI, lines):
    """A failed stream is not ended regularly, so clients notice that a part is missing."""
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


async def test_a_lost_postgres_connection_gets_503(http, lines):
    """A lost Postgres connection gets 503 with `Retry-After`, without the driver's text."""
    answer = await http.get("/fails/postgres")
    assert (answer.status_code, problem_of(answer)["type"]) == (
        503,
        "urn:sluice:problem:unavailable",
    )
    assert int(answer.headers["Retry-After"]) >= 1
    assert SECRET not in answer.text
    assert [line["level"] for line in lines()] == ["info"]


async def test_only_a_route_that_takes_a_key_asks_for_the_same_key(http, key_of, monkeypatch):
    """After 500 or 503 the caller learns that a repetition is safe, and whether it needs a key."""
    headers = await key_of()
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 0.5)
    for how in ("slow", "postgres", "unforeseen"):
        without = problem_of(await http.get(f"/fails/{how}", headers=headers))["detail"]
        assert "completely or not at all. It is safe to send it again." in without
        assert "Idempotency-Key" not in without
        keyed = problem_of(await http.post(f"/fails/keyed/{how}", headers=headers))["detail"]
        assert "With the same Idempotency-Key it is safe to send it again." in keyed


async def test_a_slow_response_times_out(http, monkeypatch, lines):
    """After the time limit the response is 503, and its database connection is free again."""
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 0.1)
    for method, body in (("GET", None), ("POST", b"x")) * 4:
        assert (await http.request(method, "/fails/slow", content=body)).status_code == 503
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 20)
    assert (await http.get("/readyz")).status_code == 200
    assert {line["level"] for line in lines()} == {"info"}


async def test_unknown_paths_and_methods(http):
    """An unknown path gets 404. A wrong method gets 405 with the allowed ones, also if routes share
    a path.
    """
    assert problem_of(await http.get("/nothing"))["type"] == "urn:sluice:problem:not-found"
    for path in ("/healthz/", "/docs", "/redoc", "/hirefire", "//healthz"):
        assert (await http.get(path)).status_code == 404
    for path, allow in (("/healthz", "GET, HEAD"), ("/v1/jobs", "GET, POST")):
        answer = await http.request("DELETE", path)
        assert problem_of(answer)["type"] == "urn:sluice:problem:method-not-allowed"
        assert (answer.status_code, answer.headers["Allow"]) == (405, allow)


async def test_each_error_has_its_location(http):
    """All errors are listed, in `errors` for programs and in `detail` for people. Long values are
    shortened. Values of headers and paths, which may be secrets, are not repeated.
    """
    answer = await http.get(f"/asked/hidden1?most={'z' * 500}", headers={"secret": "hidden2"})
    problem = problem_of(answer)
    assert (answer.status_code, problem["type"]) == (422, "urn:sluice:problem:invalid")
    messages = {error["location"]: error["message"] for error in problem["errors"]}
    assert messages.keys() == {"path.number", "query.most", "header.secret"}
    assert "hidden" not in answer.text
    assert "zzz" in messages["query.most"]
    assert len(answer.text) < 2_000
    for place in ("the path's `number`", "the query parameter `most`", "the header `secret`"):
        assert f"\n  {place}: " in problem["detail"]
    valid = await http.get("/asked/1?most=2")
    assert valid.json() == 3


def test_no_route_lets_fastapi_read_its_body():
    """FastAPI would parse JSON of any size, accept NaN and duplicate names, and build an error for
    each value. Every route reads its body by `web.request_body`, or as a form or file.
    """
    routes = [route for router in ROUTERS for route in router.routes]
    assert all(isinstance(route, APIRoute) for route in routes)
    assert len(routes) > 20
    assert [route.path for route in routes if route.body_field is not None] == []


async def test_unknown_query_parameters_are_rejected(http, key_of):
    """Each route that needs a key rejects unknown parameters and names the valid ones. Links in
    mails and health checks ignore them, since others add parameters there.
    """
    headers = await key_of()
    for path, expected in (
        ("/v1/jobs/7?verbose=1", "no parameters"),
        ("/v1/jobs?Limit=1", "cursor"),
    ):
        answer = await http.get(path, headers=headers)
        problem = problem_of(answer)
        assert answer.status_code == 422
        assert expected in problem["detail"]
        assert len(problem["errors"]) == 1
    many = "&".join(f"{'x' * 300}{n}=1" for n in range(100))
    assert len((await http.get(f"/v1/jobs?{many}", headers=headers)).text) < 1_000
    assert (await http.get("/healthz?verbose=1")).status_code == 200
    nul = await http.get("/v1/jobs?action=a%00b", headers=headers)
    assert (nul.status_code, problem_of(nul)["type"]) == (400, "urn:sluice:problem:malformed")


async def test_every_response_has_security_headers(http, key_of):
    """The responses of routes and of all kinds of errors have the same security headers."""
    http.headers.update(await key_of())
    paths = ("/healthz", "/nothing", "/fails/postgres", "/fails/unforeseen", "/openapi.json")
    for answer in [await http.get(path) for path in paths]:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Correlation-Id"]
        assert "Server" not in answer.headers


@pytest.mark.parametrize("name", ["a b", "x" * 101, 'a"b', "Käse", ""])
async def test_an_invalid_correlation_id_is_replaced(http, name, lines):
    """An invalid correlation id is replaced, since every log line of a job contains it."""
    answer = await http.get("/healthz", headers={"X-Correlation-Id": name.encode("latin-1")})
    (line,) = lines()
    assert answer.headers["X-Correlation-Id"] == line["correlation_id"] != name


async def test_no_log_line_has_a_path_a_query_or_a_key(http, key_of, lines):
    """Log lines have the route's pattern instead of the path."""
    headers = await key_of()
    await http.get(f"/v1/jobs/{SECRET}?token={SECRET}", headers=headers)
    await http.get(f"/{SECRET}", headers=headers)
    _, first, second = lines()
    assert (first["route"], second["route"]) == ("/v1/jobs/{job_id}", None)
    assert first["key"] is None or first["key"] > 0
    token = headers["Authorization"].partition("_")[2]
    for text in ("anna", "nobody", token):
        assert text not in json.dumps([first, second])


def test_types_of_problems_differ() -> None:
    """Each kind of problem has its own type, and a status of 4xx or 5xx."""
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, ProblemKind)]
    assert len({kind.type for kind in kinds}) == len(kinds)
    assert all(400 <= kind.status < 600 for kind in kinds)


@pytest.mark.parametrize(
    "family", [DatabaseUnreachable, QueueUnreachable, ServerStartError, SettingsError]
)
def test_servers_and_settings_are_not_disclosed(family) -> None:
    """Only operators see the details of these errors."""
    problem = problems.to_problem(family("Postgres at db.internal:5432 cannot be used"), {})
    assert (problem.kind, "db.internal" in str(problem)) == (problems.UNAVAILABLE, False)


def test_every_error_of_sluice_becomes_a_problem() -> None:
    """Every error class of Sluice, also a future one, is converted to a problem."""

    def subclasses_of(base: type[SluiceError]) -> list[type[SluiceError]]:
        return [
            base,
            *(
                descendant
                for subclass in base.__subclasses__()
                for descendant in subclasses_of(subclass)
            ),
        ]

    for family in subclasses_of(SluiceError):
        error = family.__new__(family, "text")
        error.args = ("text",)
        for name in ("prompts", "field_errors"):
            setattr(error, name, ())
        assert problems.to_problem(error, {})


INVALID_IDS = (
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


async def test_ids_are_written_in_one_way(http, key_of, app):
    """In every path, an id that is not written canonically gets the same answer as an unknown id.
    It makes no difference whether Python could parse it.
    """
    key = await key_of()
    requests = 0
    for path, operations in app.openapi()["paths"].items():
        (name,) = re.findall(r"\{(\w+_id)\}", path) or [None]
        for method in operations if name else ():
            unknown = await http.request(method, path.format(**{name: 4711}), headers=key)
            assert unknown.status_code in {401, 404, 415}, (path, unknown.text)
            for invalid_id in INVALID_IDS:
                requests += 1
                answer = await http.request(method, path.format(**{name: invalid_id}), headers=key)
                assert answer.status_code == unknown.status_code, (path, invalid_id, answer.text)
                assert answer.json()["type"] == unknown.json()["type"]
    assert requests > 8 * len(INVALID_IDS)
