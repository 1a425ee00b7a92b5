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
"""How a request is counted whose connection was refused or lost, or whose time was up."""

CALLER_SECONDS = 6.0
"""Seconds that a client waits for the next part of a response before it repeats the request."""

_RETRY_SECONDS = 0.5
_MADE = (HTTPStatus.OK, HTTPStatus.ACCEPTED)


class Answer(NamedTuple):
    """An answer that counts, and how often the same was asked before without getting one.

    Each of those requests may still be under way, and be carried out after this answer.
    """

    status: int
    body: Any
    lost: int


class RefusedError(Exception):
    """The service gave a response that it must not give."""


class WebClient:
    """Callers with an API key of one account, or, without a key, senders and recipients."""

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
        """The answer to a request, which `what` names without telling its path.

        With a `secret` each request is signed anew. Raises RefusedError where the status is not one
        of those that it `accepts`, and TimeoutError when there was no answer for long.
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
        """An answer that is read as it comes; None where it did not begin. It may break off, which
        raises httpx.TransportError.
        """
        async with self._http.stream("GET", path) as response:
            good = self._is_answer(what, response)
            if good and response.status_code != HTTPStatus.OK:
                await response.aread()
                raise RefusedError(f"{what}: {_describe(response)}")
            yield response if good else None

    async def _try(self, what: str, request: httpx.Request) -> httpx.Response | None:
        """The answer, unless it is that this is to be asked again."""
        try:
            response = await self._http.send(request)
        except httpx.TransportError:
            self.count_lost()
            return None
        return response if self._is_answer(what, response) else None

    def count_lost(self) -> None:
        """Count an answer that did not come, or not to its end."""
        self._records.requests[NO_ANSWER] += 1

    def _is_answer(self, what: str, response: httpx.Response) -> bool:
        """Whether the answer is one to what was asked, and not that it is to be asked later: one of
        5xx has to be a 503. After a 429 as well it is asked again: a file whose answer was given up
        may still be under way, and then counts among those that the key uploads at a time.
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
    """What it was refused with, and nothing that may have an address in it."""
    body = _body(response)
    kind = body.get("type", "") if isinstance(body, dict) else ""
    return f"{response.status_code} {kind}"
