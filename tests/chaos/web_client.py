"""An HTTP client that repeats a request until it is answered."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx

from runtime.signing import signature
from tests.chaos.acknowledgements import Records, Violation
from tests.chaos.observer import ANSWER_SECONDS

FAILED = "no HTTP response reports an internal error"

NO_ANSWER = "no answer"
"""The count's name for a request that was refused or lost, or that timed out."""

CALLER_SECONDS = 6.0
"""Seconds that a client waits for the next part of a response before it repeats the request."""

_RETRY_SECONDS = 0.5
_MADE = (HTTPStatus.OK, HTTPStatus.ACCEPTED)


class Answer(NamedTuple):
    """A final answer, and the number of earlier attempts without one.

    Each earlier request may still be under way and take effect after this answer.
    """

    status: int
    body: Any
    lost: int


class RefusedError(Exception):
    """The service gave a response that it must not give."""


class WebClient:
    """Sends requests with an API key of one account or, for senders and recipients, without one."""

    def __init__(self, url: str, records: Records, key: str | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=CALLER_SECONDS,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            trust_env=False,
        )
        self._records = records

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(
        self,
        what: str,
        method: str,
        path: str,
        *,
        accepts: Collection[int] = _MADE,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        **content: Any,
    ) -> Answer:
        """Return the answer to a request; `what` names it without its path.

        With a `secret`, each attempt gets a new signature. Raises RefusedError for a status that is
        not in `accepts`, and TimeoutError after a long time without an answer.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        lost = 0
        while True:
            request = self._http.build_request(method, path, headers=headers, **content)
            if secret is not None:
                _sign(request, secret)
            response = await self._try(what, request)
            if response is not None:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} was not answered")
            lost += 1
            await asyncio.sleep(_RETRY_SECONDS)
        if response.status_code not in accepts:
            raise RefusedError(f"{what}: {_describe(response)}")
        return Answer(response.status_code, _body(response), lost)

    @asynccontextmanager
    async def stream(self, what: str, path: str) -> AsyncIterator[httpx.Response | None]:
        """Yield a streamed answer, or None if it did not begin. It may break off with
        httpx.TransportError.
        """
        async with self._http.stream("GET", path) as response:
            good = self._is_answer(what, response)
            if good and response.status_code != HTTPStatus.OK:
                await response.aread()
                raise RefusedError(f"{what}: {_describe(response)}")
            yield response if good else None

    async def _try(self, what: str, request: httpx.Request) -> httpx.Response | None:
        """Return the answer, or None if the request is to be repeated."""
        try:
            response = await self._http.send(request)
        except httpx.TransportError:
            self.count_lost()
            return None
        return response if self._is_answer(what, response) else None

    def count_lost(self) -> None:
        """Count an answer that was missing or incomplete."""
        self._records.requests[NO_ANSWER] += 1

    def _is_answer(self, what: str, response: httpx.Response) -> bool:
        """Return whether the answer is final.

        The request is repeated after a 5xx, which must be a 503, and after a 429. An upload that
        was given up may still be under way and count against the key's limit.
        """
        status = response.status_code
        self._records.requests[str(status)] += 1
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return False
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return True
        if status != HTTPStatus.SERVICE_UNAVAILABLE:
            self._records.violations.append(Violation(FAILED, f"{what}: {status}"))
        return False


def _sign(request: httpx.Request, secret: str) -> None:
    timestamp = str(int(time.time()))
    request.headers["Sluice-Timestamp"] = timestamp
    request.headers["Sluice-Signature"] = signature(secret, timestamp, request.content)


def _body(response: httpx.Response) -> Any:
    is_json = response.headers.get("content-type", "").partition(";")[0].endswith("json")
    return response.json() if is_json else None


def _describe(response: httpx.Response) -> str:
    """Return the status and the problem type, which contain no address."""
    body = _body(response)
    kind = body.get("type", "") if isinstance(body, dict) else ""
    return f"{response.status_code} {kind}"
