"""Bodies that are too large, too slow or not to be read, and what is read of them."""

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

MOST = 5_000
PART = b"x" * 1_000


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Settings by which bodies are soon too large."""
    return settings.model_copy(update={"max_body_bytes": MOST} | getattr(request, "param", {}))


class Parts:
    """A body that comes in parts of a thousand bytes, and counts how many were taken."""

    def __init__(self, parts: int) -> None:
        self.taken = 0
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._parts):
            self.taken += 1
            yield PART


def is_problem(answer: httpx.Response, status: int, slug: str) -> bool:
    """Whether it is the problem of that name."""
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    return (answer.status_code, told["status"], told["type"]) == (
        status,
        status,
        f"urn:sluice:problem:{slug}",
    )


async def ask_in_parts(app: FastAPI, headers: dict[str, str], parts: Parts, **more: str):
    """Send a body to `/v1/jobs` of which the server takes no more than it asks for."""
    sent: list[dict] = []
    coming = aiter(parts)

    async def receive() -> dict:
        body = await anext(coming, None)
        return {"type": "http.request", "body": body or b"", "more_body": body is not None}

    async def send(message: dict) -> None:
        sent.append(message)

    given = {"content-type": "application/json", **headers, **more}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/jobs",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
    }
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def test_a_body_is_read_up_to_the_limit_and_no_further(app, key_of):
    """However much comes, no more is taken than shows that it is too much; the connection ends."""
    parts = Parts(100_000)
    status, headers = await ask_in_parts(
        app, await key_of(), parts, **{"transfer-encoding": "chunked"}
    )
    assert status == 413
    assert headers[b"connection"] == b"close"
    assert parts.taken <= MOST // len(PART) + 1


async def test_nothing_is_read_of_a_body_that_says_that_it_is_too_large(app, key_of):
    """Its declared length is enough; whoever has no key is refused without reading as well."""
    for key, expected in ((await key_of(), 413), ({}, 401)):
        parts = Parts(100_000)
        status, headers = await ask_in_parts(app, key, parts, **{"content-length": "100000000"})
        assert (status, parts.taken) == (expected, 0)
        assert headers[b"connection"] == b"close"


async def test_a_body_of_the_limit_is_read(http, key_of):
    """It is looked at, and found to be no JSON; one byte more is not."""
    headers = await key_of() | {"Content-Type": "application/json"}
    full = await http.post("/v1/jobs", content=b"x" * MOST, headers=headers)
    assert is_problem(full, 400, "malformed")
    more = await http.post("/v1/jobs", content=b"x" * (MOST + 1), headers=headers)
    assert is_problem(more, 413, "body-too-large")
    assert f"{MOST:,}" in more.json()["detail"]


async def test_a_body_that_stops_coming_is_not_waited_for(app, key_of, monkeypatch):
    """After the time that its next part has, the answer is 408, and the connection ends."""
    monkeypatch.setattr(body_limit, "BODY_TIMEOUT_SECONDS", 0.05)

    class Stalling(Parts):
        async def __aiter__(self):
            yield PART
            await asyncio.Event().wait()

    status, headers = await ask_in_parts(
        app, await key_of(), Stalling(1), **{"content-length": "3000"}
    )
    assert (status, headers[b"connection"]) == (408, b"close")


async def test_slow_parts_are_waited_for_however_many(app, key_of, monkeypatch):
    """Neither the time for a part nor that for an answer counts while parts go on coming."""
    monkeypatch.setattr(body_limit, "BODY_TIMEOUT_SECONDS", 20)
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 1.0)

    class Slow(Parts):
        async def __aiter__(self):
            for _ in range(4):
                # Longer in all than an answer may take, shorter each than a part may.
                await asyncio.sleep(0.3)
                yield PART

    status, _ = await ask_in_parts(app, await key_of(), Slow(4), **{"content-length": "4000"})
    assert status == 400


NO_REQUESTS = (
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

NOT_TO_BE_KEPT = (
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


async def test_a_body_that_is_no_request_is_refused(http, key_of, pool):
    """Whatever comes as JSON, the answer is a problem of the caller's, and nothing is stored."""
    headers = await key_of() | {"Content-Type": "application/json"}
    for body, status, slug in NO_REQUESTS:
        answer = await http.post("/v1/jobs", content=body, headers=headers)
        assert is_problem(answer, status, slug), (body, answer.text)
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_values_that_cannot_be_kept_are_refused(http, key_of, pool):
    """Among the rest of a good request each is a mistake of the caller's, told as a problem."""
    headers = await key_of() | {"Content-Type": "application/json"}
    for part in NOT_TO_BE_KEPT:
        body = f'{{"action": "opt_out", "selection": {{"all": true}}, {part}}}'
        answer = await http.post("/v1/jobs", content=body.encode(), headers=headers)
        assert answer.status_code in {400, 404, 422}, (part, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_a_body_of_another_type_is_refused(http, key_of):
    """415, whatever is in it."""
    key = await key_of()
    for kind in OTHER_TYPES:
        answer = await http.post("/v1/jobs", content=b"{}", headers=key | {"Content-Type": kind})
        assert is_problem(answer, 415, "unsupported-media-type"), kind


async def test_the_parts_of_a_form_are_bounded(http, key_of, pool):
    """A part with the job that is too large, too many parts, and values that cannot be kept."""
    headers = await key_of()
    job = '{"action": "opt_out", "params": {"note": %s}}'
    long, deep = f'"{"x" * 2_000_000}"', "[" * 100 + "]" * 100
    ids = ("contacts", (None, "1\n2"))
    for parts, statuses in (
        ([("job", (None, job % long)), ids], {400}),
        ([("job", ("job.json", job % long)), ids], {413}),
        ([("job", ("job.json", job % deep)), ids], {400}),
        ([("job", ("job.json", job % "NaN")), ids], {422}),
        ([("job", (None, job % '"x"'))] + [("contacts", ("a", "1"))] * 3, {400}),
        ([("job", (None, job % '"x"'))] + [("contacts", (None, "1"))] * 3, {400}),
    ):
        answer = await http.post("/v1/jobs", files=parts, headers=headers)
        assert answer.status_code in statuses, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert await pool.fetchval("select count(*) from jobs") == 0


@pytest.mark.parametrize("settings", [{"max_upload_bytes": MOST * 10}], indirect=True)
async def test_files_have_a_limit_of_their_own(http, key_of, pool):
    """More than another body may have, where the route takes files in such a form."""
    headers = await key_of()
    for count, status in ((MOST, 202), (MOST * 6, 413)):
        parts = [("job", (None, '{"action": "opt_out"}')), ("contacts", ("ids", "1\n" * count))]
        answer = await http.post("/v1/jobs", files=parts, headers=headers)
        assert answer.status_code == status, answer.text
    nobody = await http.post("/v1/opt-outs", files=parts, headers=headers)
    assert is_problem(nobody, 415, "unsupported-media-type")


LARGE = {"max_body_bytes": 4_000_000}


def job(selection: str = '{"all": true}', more: str = "") -> bytes:
    """A body for `/v1/jobs`."""
    return f'{{"action": "opt_out", "selection": {selection}{more}}}'.encode()


def listed(name: str, value: str, number: int) -> str:
    """A selection that lists the value so often."""
    return f'{{"{name}": [{",".join([value] * number)}]}}'


@cache
def names(number: int) -> str:
    """So many members of an object that nobody knows."""
    return ",".join(f'"x{n:06}":1' for n in range(number))


WRONG = (
    (job(listed("statuses", '""', 1_300_000)), "more than 300,000 values"),
    (job(listed("statuses", '""', 290_000)), "the first of `selection.statuses`"),
    (job(listed("contacts", '""', 1_300_000)), "more than 300,000 values"),
    (job(listed("contacts", '"1"', 290_000)), "the first of `selection.contacts`"),
    (job(listed("contacts", "[]", 90_000)), "the first of `selection.contacts`"),
    (job(listed("contacts", "1", 290_000)), "At most 100,000 contacts"),
    (job(listed("addresses", '""', 290_000)), "the first of `selection.addresses`"),
    (
        job(listed("addresses", '"\u00e9@x.example"', 2_001)),
        "t most 2,000 addresses with characters",
    ),
    (job(more=f', "fields": [{",".join(["1"] * 1_900_000)}]'), "more than 300,000 values"),
    (job(more=f', "fields": [{",".join(["1"] * 290_000)}]'), "the first of `fields`"),
    (job(more=f",{names(330_000)}"), "more than 300,000 values"),
    (job(more=f",{names(290_000)}"), "more than 1,000 names in one object"),
    (job(f"{{{names(290_000)}}}"), "more than 1,000 names in one object"),
    (job(more=f', "params": {{{names(290_000)}}}'), "more than 1,000 names in one object"),
    (job(more=f', "params": {{{names(900)}}}'), "There are 880 more errors"),
    (job(more=f', "evidence": {{{names(290_000)}}}'), "more than 1,000 names in one object"),
    (job(more=f', "requested_by": "{"x" * 3_000_000}"'), "200 characters at most"),
    (job(more=f', "params": {{"note": {"7" * 3_000_000}}}'), "Give text"),
)
"""Bodies with very many mistakes, or one that is very large, and what is told of them."""


@pytest.mark.parametrize("settings", [LARGE], indirect=True)
async def test_mistakes_by_the_million_are_refused_before_they_are_made(
    http, key_of, pool, monkeypatch
):
    """One sentence says what is wrong, and no more errors were made than are looked at."""
    made: list[int] = []
    told = invalid_request.convert_validation_error

    def counting(what, error, *arguments, **named):
        made.append(error.error_count())
        return told(what, error, *arguments, **named)

    for module in ("web.request_body", "producers.invalid_request", "producers.request_validation"):
        monkeypatch.setattr(f"{module}.convert_validation_error", counting)
    headers = await key_of() | {"Content-Type": "application/json"}
    for body, sentence in WRONG:
        answer = await http.post("/v1/jobs", content=body, headers=headers)
        assert is_problem(answer, 422, "invalid"), answer.text
        assert sentence in answer.json()["detail"], answer.text
        assert len(answer.content) < 20_000
    expected = f'{{"expected": {{{names(290_000)}}}}}'
    for body in (expected, expected.replace("}", f",{names(40_000)}}}", 1)):
        answer = await http.post("/v1/jobs/1/apply", content=body, headers=headers)
        assert is_problem(answer, 422, "invalid"), answer.text
    assert made
    assert max(made) <= invalid_request.MAX_ERRORS_READ
    assert await pool.fetchval("select count(*) from jobs") == 0


@pytest.mark.parametrize("settings", [LARGE], indirect=True)
async def test_as_many_ids_as_may_stand_in_a_body_are_taken(http, key_of):
    """The limits are above what is documented."""
    headers = await key_of() | {"Content-Type": "application/json"}
    ids = ",".join(map(str, range(1, 100_001)))
    answer = await http.post("/v1/jobs", content=job(f'{{"contacts": [{ids}]}}'), headers=headers)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("settings", [{"slow_client_seconds": 0.1}], indirect=True)
async def test_a_body_that_trickles_is_not_waited_for(app, key_of, monkeypatch):
    """Each part comes in time, and all of them would take hours: 408 after SLOW_CLIENT_SECONDS."""
    monkeypatch.setattr(body_limit, "MIN_BYTES_PER_SECOND", 1_000_000_000)

    class Trickling(Parts):
        async def __aiter__(self):
            async for part in super().__aiter__():
                await asyncio.sleep(0.05)
                yield part

    parts = Trickling(1_000)
    status, headers = await ask_in_parts(app, await key_of(), parts, **{"content-length": "4900"})
    assert (status, headers[b"connection"]) == (408, b"close")


def upload(lines: int) -> dict:
    """A form with a job and a list of so many ids."""
    job = json.dumps({"action": "opt_out"})
    ids = b"".join(b"%d\n" % number for number in range(1_000_000, 1_000_000 + lines))
    return {"files": {"job": (None, job), "contacts": ("ids.txt", ids)}}


@pytest.mark.parametrize("settings", [{"max_concurrent_uploads": 1}], indirect=True)
async def test_a_key_uploads_so_many_files_at_a_time(app, http, key_of, pool):
    """429 and when to come again, without reading the next one; another key is not touched."""
    headers, other = await key_of(), await key_of("shop")
    with app.state.sluice.upload_limiter.hold(1, 0):
        answer = await http.post("/v1/jobs", headers=headers, **upload(10))
        assert is_problem(answer, 429, "too-many-requests")
        assert answer.headers["retry-after"] == "10"
        assert (await http.post("/v1/jobs", headers=other, **upload(10))).status_code == 202
    assert (await http.post("/v1/jobs", headers=headers, **upload(10))).status_code == 202
    assert await pool.fetchval("select count(*) from jobs") == 2


async def test_a_file_for_which_the_disk_has_no_room_is_told(http, key_of, pool):
    """507, a line in the log, and nothing is stored. Files may be no larger, as on a full disk."""
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


SIXTEEN_LARGE = {"max_body_bytes": 200_000, "trusted_proxies": 1}


class LargePosts:
    """Bodies in chunks, each of which may become as large as any, and stops before its end."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self._held = asyncio.Semaphore(0)
        self.hold = asyncio.Event()
        self._http = http
        self._headers = headers | {"Content-Type": "application/json"}

    def post(self, peer: int) -> asyncio.Task[httpx.Response]:
        """Send one from that peer."""
        headers = self._headers | {"X-Forwarded-For": f"192.0.2.{peer}"}
        return asyncio.create_task(
            self._http.post("/v1/jobs", headers=headers, content=self._held_back())
        )

    async def hold_back(self, peers: Iterable[int]) -> list[asyncio.Task[httpx.Response]]:
        """Send one from each, and wait until all are held."""
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


@pytest.mark.parametrize("settings", [SIXTEEN_LARGE], indirect=True)
async def test_so_many_large_bodies_are_in_memory(key_of, http, monkeypatch):
    """One more waits for room, and is told to come again; small ones are taken meanwhile. One peer
    has no more than half of the room.
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

        def refused() -> int:
            told = [line for line in logs if line["event"] == "bodies.limited"]
            assert not any(line["ended"] for line in told)
            return sum(line["refused"] for line in told)

        await wait_until_async(
            lambda: refused() == 2, deadline_seconds=5, what="the log tells of both"
        )


@pytest.mark.parametrize("settings", [SIXTEEN_LARGE], indirect=True)
@pytest.mark.parametrize("peers", [[0] * 8, [*range(1, 9), *range(1, 9)]])
async def test_slow_large_bodies_make_room(key_of, http, monkeypatch, peers):
    """Where another waits the slowest is ended with 408, whether they come from the same peer or
    have all of the room; nobody is refused.
    """
    monkeypatch.setattr(large_bodies, "STALE_SECONDS", 0.1)
    large = LargePosts(http, await key_of())
    slow = await large.hold_back(peers)
    with capture_logs() as logs:
        more = large.post(0)
        (ended, *_), rest = await asyncio.wait(
            slow, timeout=20, return_when=asyncio.FIRST_COMPLETED
        )
        assert is_problem(await ended, 408, "request-timeout")
        large.hold.set()
        assert {answer.status_code for answer in await asyncio.gather(*rest)} == {400}
        assert (await more).status_code == 400
        await wait_until_async(
            lambda: [line for line in logs if line["event"] == "bodies.limited"],
            deadline_seconds=5,
            what="the log tells of it",
        )
    (told,) = [line for line in logs if line["event"] == "bodies.limited"]
    assert (told["ended"], told["refused"]) == (1, 0)
