"""Limits of request bodies: size, time, number of values, uploads and memory."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterable
from functools import cache

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from producers import invalid_request
from runtime.settings import Settings
from tests.kit.waiting import wait_until_async
from web import large_bodies
from web.middleware import body_limit, timeout

MAX_BYTES = 5_000
PART = b"x" * 1_000


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Return settings with a low limit for bodies."""
    return settings.model_copy(update={"max_body_bytes": MAX_BYTES} | getattr(request, "param", {}))


class Parts:
    """A body that comes in parts of a thousand bytes, and counts the parts that were read."""

    def __init__(self, number: int) -> None:
        self.read_count = 0
        self._parts = number

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._parts):
            self.read_count += 1
            yield PART


def is_problem(answer: httpx.Response, status: int, slug: str) -> bool:
    """Return whether the response is the problem of this name."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    return (answer.status_code, problem["status"], problem["type"]) == (
        status,
        status,
        f"urn:sluice:problem:{slug}",
    )


async def post_in_parts(app: FastAPI, headers: dict[str, str], parts: Parts, **more_headers: str):
    """Post a body to `/v1/jobs` part by part; the server gets a part only when it asks for one."""
    sent: list[dict] = []
    remaining = aiter(parts)

    async def receive() -> dict:
        body = await anext(remaining, None)
        return {"type": "http.request", "body": body or b"", "more_body": body is not None}

    async def send(message: dict) -> None:
        sent.append(message)

    all_headers = {"content-type": "application/json", **headers, **more_headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/jobs",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in all_headers.items()],
    }
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def test_a_body_is_read_only_up_to_the_limit(app, key_of):
    """A body is read only until it exceeds the limit, and then the connection is closed."""
    parts = Parts(100_000)
    status, headers = await post_in_parts(
        app, await key_of(), parts, **{"transfer-encoding": "chunked"}
    )
    assert status == 413
    assert headers[b"connection"] == b"close"
    assert parts.read_count <= MAX_BYTES // len(PART) + 1


async def test_a_body_with_a_large_declared_length_is_not_read(app, key_of):
    """A declared length above the limit is rejected unread, and so is a request without a key."""
    for key, expected in ((await key_of(), 413), ({}, 401)):
        parts = Parts(100_000)
        status, headers = await post_in_parts(app, key, parts, **{"content-length": "100000000"})
        assert (status, parts.read_count) == (expected, 0)
        assert headers[b"connection"] == b"close"


async def test_a_body_at_the_limit_is_read(http, key_of):
    """A body at the limit is read and found to be no JSON; one more byte is too many."""
    headers = await key_of() | {"Content-Type": "application/json"}
    at_limit = await http.post("/v1/jobs", content=b"x" * MAX_BYTES, headers=headers)
    assert is_problem(at_limit, 400, "malformed")
    above_limit = await http.post("/v1/jobs", content=b"x" * (MAX_BYTES + 1), headers=headers)
    assert is_problem(above_limit, 413, "body-too-large")
    assert f"{MAX_BYTES:,}" in above_limit.json()["detail"]


async def test_the_first_content_type_tells_the_limit(http, key_of):
    """A second Content-Type, of a form with files, does not lift the limit of a JSON body."""
    types = [("Content-Type", each) for each in ("application/json", "multipart/form-data")]
    headers = [*(await key_of()).items(), *types]
    answer = await http.post("/v1/jobs", content=b"x" * (MAX_BYTES + 1), headers=headers)
    assert is_problem(answer, 413, "body-too-large")


async def test_a_stalled_body_times_out(app, key_of, monkeypatch):
    """If the next part does not arrive in time, the answer is 408 and the connection is closed."""
    monkeypatch.setattr(body_limit, "BODY_TIMEOUT_SECONDS", 0.05)

    class Stalling(Parts):
        async def __aiter__(self):
            yield PART
            await asyncio.Event().wait()

    status, headers = await post_in_parts(
        app, await key_of(), Stalling(1), **{"content-length": "3000"}
    )
    assert (status, headers[b"connection"]) == (408, b"close")


async def test_slow_parts_do_not_time_out(app, key_of, monkeypatch):
    """While parts keep arriving in time, the time limit of a response does not apply."""
    monkeypatch.setattr(body_limit, "BODY_TIMEOUT_SECONDS", 20)
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 1.0)

    class Slow(Parts):
        async def __aiter__(self):
            for _ in range(4):
                # Longer in total than a response may take, but each shorter than a part may take.
                await asyncio.sleep(0.3)
                yield PART

    status, _ = await post_in_parts(app, await key_of(), Slow(4), **{"content-length": "4000"})
    assert status == 400


INVALID_BODIES = (
    (b"", 400, "malformed"),
    (b"{", 400, "malformed"),
    (b"null", 422, "invalid"),
    (b"[1]", 422, "invalid"),
    (b'"text"', 422, "invalid"),
    (b'{"action": "\xff\xfe"}', 400, "malformed"),
    (b"\x00", 400, "malformed"),
    (b"[" * 4_000, 400, "malformed"),
    (b"[" * 2_400 + b"]" * 2_400, 400, "malformed"),
    (b'{"a":' * 800 + b"1" + b"}" * 800, 400, "malformed"),
)

INVALID_VALUES = (
    '"params": {"note": "a\\u0000b"}',
    '"params": {"note": "\\ud800"}',
    '"params": {"note": NaN}',
    '"params": {"note": -Infinity}',
    '"params": {"note": 1e999}',
    f'"params": {{"note": 1{"0" * 400}}}',
    f'"params": {{"note": {"[" * 150}{"]" * 150}}}',
    '"params": {"\\u0000": 1}',
    '"params": {"\\ud800": 1}',
    '"evidence": {"description": "\\u0000"}',
    '"idempotency_key": "unknown here"',
    f'"selection": {{"contacts": [1{"0" * 400}]}}',
    f'"selection": {{"contacts": [{2**63}]}}',
    f'"selection": {{"import_job": {2**70}}}',
    f'"selection": {{"import_job": -{2**70}}}',
    '"selection": {"tag": "\\u0000"}',
    '"selection": {"tag": "\\ud83d"}',
    '"requested_by": "\\u0000"',
    '"\\ud800": 1',
)

OTHER_TYPES = ("text/plain", "application/xml", "application/jsonp", "x", "")


async def test_a_body_without_a_request_is_rejected(http, key_of, pool):
    """A body that is no valid request is a problem of status 4xx, and nothing is stored."""
    headers = await key_of() | {"Content-Type": "application/json"}
    for body, status, slug in INVALID_BODIES:
        answer = await http.post("/v1/jobs", content=body, headers=headers)
        assert is_problem(answer, status, slug), (body, answer.text)
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_values_that_cannot_be_stored_are_rejected(http, key_of, pool):
    """Each value that cannot be stored makes an otherwise valid request invalid."""
    headers = await key_of() | {"Content-Type": "application/json"}
    for part in INVALID_VALUES:
        body = f'{{"action": "opt_out", "selection": {{"all": true}}, {part}}}'
        answer = await http.post("/v1/jobs", content=body.encode(), headers=headers)
        assert answer.status_code in {400, 404, 422}, (part, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_a_body_of_another_type_is_rejected(http, key_of):
    """Any other Content-Type gets 415, whatever the body."""
    key = await key_of()
    for kind in OTHER_TYPES:
        answer = await http.post("/v1/jobs", content=b"{}", headers=key | {"Content-Type": kind})
        assert is_problem(answer, 415, "unsupported-media-type"), kind


async def test_the_parts_of_a_form_are_limited(http, key_of, pool):
    """A job part that is too large, too many parts and values that cannot be stored get 4xx."""
    headers = await key_of()
    job = '{"action": "opt_out", "params": {"note": %s}}'
    long, deep = f'"{"x" * 2_000_000}"', "[" * 100 + "]" * 100
    ids = ("contacts", (None, "1\n2"))
    for parts, statuses in (
        ([("job", (None, job % long)), ids], {413}),
        ([("job", ("job.json", job % long)), ids], {413}),
        ([("job", ("job.json", job % deep)), ids], {400}),
        ([("job", ("job.json", job % "NaN")), ids], {422}),
        ([("job", (None, job % '"x"'))] + [("contacts", ("a", "1"))] * 3, {422}),
        ([("job", (None, job % '"x"'))] + [("contacts", (None, "1"))] * 3, {422}),
    ):
        answer = await http.post("/v1/jobs", files=parts, headers=headers)
        assert answer.status_code in statuses, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert await pool.fetchval("select count(*) from jobs") == 0


@pytest.mark.parametrize("settings", [{"max_upload_bytes": MAX_BYTES * 10}], indirect=True)
async def test_files_have_their_own_limit(http, key_of, pool):
    """An uploaded file may be larger than another body, on routes that accept files."""
    headers = await key_of()
    for count, status in ((MAX_BYTES, 202), (MAX_BYTES * 6, 413)):
        parts = [("job", (None, '{"action": "opt_out"}')), ("contacts", ("ids", "1\n" * count))]
        answer = await http.post("/v1/jobs", files=parts, headers=headers)
        assert answer.status_code == status, answer.text
    opt_out = await http.post("/v1/opt-outs", files=parts, headers=headers)
    assert is_problem(opt_out, 415, "unsupported-media-type")


LARGE_LIMIT = {"max_body_bytes": 4_000_000}


def job(selection: str = '{"all": true}', more: str = "") -> bytes:
    """Return a body for `/v1/jobs`."""
    return f'{{"action": "opt_out", "selection": {selection}{more}}}'.encode()


def list_selection(name: str, value: str, number: int) -> str:
    """Return a selection that lists the value this number of times."""
    return f'{{"{name}": [{",".join([value] * number)}]}}'


@cache
def unknown_members(number: int) -> str:
    """Return this number of unknown members of an object."""
    return ",".join(f'"x{n:06}":1' for n in range(number))


BODIES_WITH_MANY_ERRORS = (
    (job(list_selection("statuses", '""', 1_300_000)), "more than 300,000 values"),
    (job(list_selection("statuses", '""', 290_000)), "the first of `selection.statuses`"),
    (job(list_selection("contacts", '""', 1_300_000)), "more than 300,000 values"),
    (job(list_selection("contacts", '"1"', 290_000)), "the first of `selection.contacts`"),
    (job(list_selection("contacts", "[]", 90_000)), "the first of `selection.contacts`"),
    (job(list_selection("contacts", "1", 290_000)), "At most 100,000 contacts"),
    (job(list_selection("addresses", '""', 290_000)), "the first of `selection.addresses`"),
    (
        job(list_selection("addresses", '"\u00e9@x.example"', 2_001)),
        "t most 2,000 addresses with characters",
    ),
    (job(more=f', "fields": [{",".join(["1"] * 1_900_000)}]'), "more than 300,000 values"),
    (job(more=f', "fields": [{",".join(["1"] * 290_000)}]'), "the first of `fields`"),
    (job(more=f",{unknown_members(330_000)}"), "more than 300,000 values"),
    (job(more=f",{unknown_members(290_000)}"), "more than 1,000 names in one object"),
    (job(f"{{{unknown_members(290_000)}}}"), "more than 1,000 names in one object"),
    (
        job(more=f', "params": {{{unknown_members(290_000)}}}'),
        "more than 1,000 names in one object",
    ),
    (job(more=f', "params": {{{unknown_members(900)}}}'), "There are 880 more errors"),
    (
        job(more=f', "evidence": {{{unknown_members(290_000)}}}'),
        "more than 1,000 names in one object",
    ),
    (job(more=f', "requested_by": "{"x" * 3_000_000}"'), "200 characters at most"),
    (job(more=f', "params": {{"note": {"7" * 3_000_000}}}'), "Give text"),
)
"""Bodies with very many errors or one very large value, and a part of the error message."""


@pytest.mark.parametrize("settings", [LARGE_LIMIT], indirect=True)
async def test_a_million_errors_are_not_created(http, key_of, pool, monkeypatch):
    """The error has one sentence, and no more validation errors were created than are read."""
    error_counts: list[int] = []
    convert = invalid_request.convert_validation_error

    def count_and_convert(what, error, *arguments, **named):
        error_counts.append(error.error_count())
        return convert(what, error, *arguments, **named)

    for module in ("web.request_body", "producers.invalid_request", "producers.request_validation"):
        monkeypatch.setattr(f"{module}.convert_validation_error", count_and_convert)
    headers = await key_of() | {"Content-Type": "application/json"}
    for body, message in BODIES_WITH_MANY_ERRORS:
        answer = await http.post("/v1/jobs", content=body, headers=headers)
        assert is_problem(answer, 422, "invalid"), answer.text
        assert message in answer.json()["detail"], answer.text
        assert len(answer.content) < 20_000
    expected = f'{{"expected": {{{unknown_members(290_000)}}}}}'
    for body in (expected, expected.replace("}", f",{unknown_members(40_000)}}}", 1)):
        answer = await http.post("/v1/jobs/1/apply", content=body, headers=headers)
        assert is_problem(answer, 422, "invalid"), answer.text
    assert error_counts
    assert max(error_counts) <= invalid_request.MAX_ERRORS_READ
    assert await pool.fetchval("select count(*) from jobs") == 0


@pytest.mark.parametrize("settings", [LARGE_LIMIT], indirect=True)
async def test_the_documented_number_of_ids_is_accepted(http, key_of):
    """The limits allow the documented number of ids."""
    headers = await key_of() | {"Content-Type": "application/json"}
    ids = ",".join(map(str, range(1, 100_001)))
    answer = await http.post("/v1/jobs", content=job(f'{{"contacts": [{ids}]}}'), headers=headers)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("settings", [{"slow_client_seconds": 0.1}], indirect=True)
async def test_a_trickling_body_times_out(app, key_of, monkeypatch):
    """If each part arrives in time but the body is too slow, it gets 408 after
    `SLOW_CLIENT_SECONDS`.
    """
    monkeypatch.setattr(body_limit, "MIN_BYTES_PER_SECOND", 1_000_000_000)

    class Trickling(Parts):
        async def __aiter__(self):
            async for part in super().__aiter__():
                await asyncio.sleep(0.05)
                yield part

    parts = Trickling(1_000)
    status, headers = await post_in_parts(app, await key_of(), parts, **{"content-length": "4900"})
    assert (status, headers[b"connection"]) == (408, b"close")


def upload(lines: int) -> dict:
    """Return a form with a job and a list of this number of ids."""
    job = json.dumps({"action": "opt_out"})
    ids = b"".join(b"%d\n" % number for number in range(1_000_000, 1_000_000 + lines))
    return {"files": {"job": (None, job), "contacts": ("ids.txt", ids)}}


@pytest.mark.parametrize("settings", [{"max_concurrent_uploads": 1}], indirect=True)
async def test_concurrent_uploads_of_a_key_are_limited(app, http, key_of, pool):
    """A key's further upload gets 429 with `Retry-After`, unread; other keys are not affected."""
    headers, other = await key_of(), await key_of("shop")
    with app.state.sluice.upload_limiter.hold(1, 0):
        answer = await http.post("/v1/jobs", headers=headers, **upload(10))
        assert is_problem(answer, 429, "too-many-requests")
        assert answer.headers["retry-after"] == "10"
        assert (await http.post("/v1/jobs", headers=other, **upload(10))).status_code == 202
    assert (await http.post("/v1/jobs", headers=headers, **upload(10))).status_code == 202
    assert await pool.fetchval("select count(*) from jobs") == 2


async def test_a_full_disk_is_reported(http, key_of, pool):
    """A full disk causes 507 and a log line, and stores nothing. A file size limit simulates it."""
    headers = await key_of()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        with capture_logs() as logs:
            answer = await http.post("/v1/jobs", headers=headers, **upload(400_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_problem(answer, 507, "insufficient-storage")
    assert [line["error"] for line in logs if line["event"] == "upload.failed"] == ["EFBIG"]
    assert await pool.fetchval("select count(*) from jobs") == 0
    assert (await http.post("/v1/jobs", headers=headers, **upload(10))).status_code == 202


SIXTEEN_LARGE_BODIES = {"max_body_bytes": 200_000, "trusted_proxies": 1}


class LargePosts:
    """Chunked bodies without a declared length, each of which stops before its end."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self._held = asyncio.Semaphore(0)
        self.hold = asyncio.Event()
        self._http = http
        self._headers = headers | {"Content-Type": "application/json"}

    def post(self, peer: int) -> asyncio.Task[httpx.Response]:
        """Send one body from this peer."""
        headers = self._headers | {"X-Forwarded-For": f"192.0.2.{peer}"}
        return asyncio.create_task(
            self._http.post("/v1/jobs", headers=headers, content=self._held_back())
        )

    async def hold_back(self, peers: Iterable[int]) -> list[asyncio.Task[httpx.Response]]:
        """Send one body from each peer, and wait until all have stopped."""
        posts = [self.post(peer) for peer in peers]
        async with asyncio.timeout(20):
            for _ in posts:
                await self._held.acquire()
        return posts

    async def _held_back(self) -> AsyncIterator[bytes]:
        for _ in range(100):
            yield PART
        self._held.release()
        await self.hold.wait()


@pytest.mark.parametrize("settings", [SIXTEEN_LARGE_BODIES], indirect=True)
async def test_large_bodies_in_memory_are_limited(key_of, http, monkeypatch):
    """One more large body waits for memory and then gets 503; small bodies are accepted meanwhile.
    One peer gets at most half of the memory.
    """
    monkeypatch.setattr(large_bodies, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(large_bodies, "STALE_SECONDS", 1_000.0)
    monkeypatch.setattr(large_bodies, "REPORT_SECONDS", 0.05)
    headers = await key_of()
    small = {"action": "opt_out", "selection": {"addresses": ["a@x.example"]}}
    large = LargePosts(http, headers)
    with capture_logs() as logs:
        first = await large.hold_back([0] * 8)
        answer = await large.post(0)
        assert is_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "2"
        first += await large.hold_back([1] * 8)
        assert is_problem(await large.post(99), 503, "unavailable")
        assert (await http.post("/v1/jobs", headers=headers, json=small)).status_code == 202
        large.hold.set()
        # The next one has room once these have ended.
        answers = [*await asyncio.gather(*first), await large.post(0)]
        assert {answer.status_code for answer in answers} == {400}

        def count_rejected() -> int:
            lines = [line for line in logs if line["event"] == "bodies.limited"]
            assert not any(line["ended"] for line in lines)
            return sum(line["rejected"] for line in lines)

        await wait_until_async(
            lambda: count_rejected() == 2, deadline_seconds=5, what="both rejections are logged"
        )


@pytest.mark.parametrize("settings", [SIXTEEN_LARGE_BODIES], indirect=True)
@pytest.mark.parametrize("peers", [[0] * 8, [*range(1, 9), *range(1, 9)]])
async def test_slow_large_bodies_are_ended_for_others(key_of, http, monkeypatch, peers):
    """If another large body waits, the slowest is ended with 408 and none is rejected. This holds
    for bodies of one peer, and if the memory is full.
    """
    monkeypatch.setattr(large_bodies, "STALE_SECONDS", 0.1)
    large = LargePosts(http, await key_of())
    slow = await large.hold_back(peers)
    with capture_logs() as logs:
        waiting = large.post(0)
        (ended, *_), rest = await asyncio.wait(
            slow, timeout=20, return_when=asyncio.FIRST_COMPLETED
        )
        assert is_problem(await ended, 408, "request-timeout")
        large.hold.set()
        assert {answer.status_code for answer in await asyncio.gather(*rest)} == {400}
        assert (await waiting).status_code == 400
        await wait_until_async(
            lambda: [line for line in logs if line["event"] == "bodies.limited"],
            deadline_seconds=5,
            what="the ended body is logged",
        )
    (line,) = [line for line in logs if line["event"] == "bodies.limited"]
    assert (line["ended"], line["rejected"]) == (1, 0)
