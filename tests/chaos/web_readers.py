"""Readers over HTTP, some of which stop early; none may see data of another account."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from random import Random

import httpx

from schemas.outcomes import FINAL_STATES
from tests.chaos.acknowledgements import DisclosedId, Records, Violation
from tests.chaos.observer import Observer
from tests.chaos.web_client import WebClient

COMPLETE_STREAM = "a stream of results that ends has all of them"
FOREIGN = "an API key finds no job of another account"
FOLLOWED = "a stream of events ends with the end of its job"

_LEFT_AFTER = 40
"""How many lines are read at most by readers that stop early."""

_FOLLOWED_FOR = 6
_FORBIDDEN = (
    ("GET", ""),
    ("GET", "/results"),
    ("GET", "/events"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("POST", "/cancel"),
)


class WebReaders:
    """The readers of one account."""

    def __init__(
        self, account: str, client: WebClient, observer: Observer, records: Records
    ) -> None:
        self._account = account
        self._client = client
        self._observer = observer
        self._records = records
        self.reads: dict[str, Callable[[Random], Awaitable[None]]] = {
            "results": self._read_results,
            "follow": self._follow,
            "jobs": self._list_jobs,
            "contacts": self._find_contacts,
            "foreign": self._request_foreign_job,
        }

    async def _read_results(self, draw: Random) -> None:
        """Read all results of a job as a stream, or the first few."""
        job_id = self._pick_job(draw, own=True)
        if job_id is None:
            return
        leaves_after = draw.choice((None, draw.randint(1, _LEFT_AFTER)))
        ended = await self._observer.value("state_of", job_id=job_id) in FINAL_STATES
        read = 0
        try:
            async with aclosing(self._lines(job_id)) as lines:
                async for line in lines:
                    read += 1
                    contact_id = json.loads(line)["contact_id"]
                    if contact_id is not None:
                        self._records.disclosed_contacts.add(DisclosedId(self._account, contact_id))
                    if read == leaves_after:
                        return
        except httpx.TransportError:
            # The stream broke off, which a reader can detect.
            self._client.count_lost()
            return
        await self._check_complete(job_id, read, ended=ended)

    async def _lines(self, job_id: int) -> AsyncIterator[str]:
        path = f"/v1/jobs/{job_id}/results?format=ndjson"
        async with self._client.stream("read results", path) as response:
            if response is None:
                raise httpx.ReadError("there was no answer")
            async for line in response.aiter_lines():
                yield line

    async def _check_complete(self, job_id: int, read: int, *, ended: bool) -> None:
        stored = await self._observer.value("result_rows", job_id=job_id)
        if ended and read != stored:
            text = f"job {job_id} has {stored} results, but {read} were sent"
            self._records.violations.append(Violation(COMPLETE_STREAM, text))

    async def _follow(self, draw: Random) -> None:
        """Read a job's events until its end, or the first few."""
        job_id = self._pick_job(draw, own=True)
        if job_id is None:
            return
        try:
            async with self._client.stream("follow", f"/v1/jobs/{job_id}/events") as response:
                if response is not None:
                    await self._read_events(job_id, response)
        except httpx.TransportError:
            self._client.count_lost()

    async def _read_events(self, job_id: int, response: httpx.Response) -> None:
        lines = 0
        async for line in response.aiter_lines():
            lines += 1
            if line == "event: ended":
                state = await self._observer.value("state_of", job_id=job_id)
                if state not in FINAL_STATES:
                    text = f"job {job_id} was reported as ended but is {state}"
                    self._records.violations.append(Violation(FOLLOWED, text))
            if lines > _FOLLOWED_FOR:
                return

    async def _list_jobs(self, _draw: Random) -> None:
        """Read a page of the account's jobs."""
        page = (await self._client.ask("list jobs", "GET", "/v1/jobs?limit=100")).body
        self._records.disclosed_jobs.update(
            DisclosedId(self._account, job["id"]) for job in page["jobs"]
        )

    async def _find_contacts(self, _draw: Random) -> None:
        """Read a page of the account's contacts."""
        path = "/v1/contacts?status=manual&limit=50"
        page = (await self._client.ask("find contacts", "GET", path)).body
        found = (contact["id"] for contact in page["contacts"])
        self._records.disclosed_contacts.update(DisclosedId(self._account, id_) for id_ in found)

    async def _request_foreign_job(self, draw: Random) -> None:
        """Ask for a job of another account, which must not be found."""
        job_id = self._pick_job(draw, own=False)
        if job_id is None:
            return
        method, rest = draw.choice(_FORBIDDEN)
        answer = await self._client.ask(
            "ask for another's job",
            method,
            f"/v1/jobs/{job_id}{rest}",
            accepts=range(HTTPStatus.INTERNAL_SERVER_ERROR),
        )
        if answer.status != HTTPStatus.NOT_FOUND:
            text = f"{method} {rest} of job {job_id}: {answer.status}"
            self._records.violations.append(Violation(FOREIGN, text))

    def _pick_job(self, draw: Random, *, own: bool) -> int | None:
        """Choose one of the jobs acknowledged so far at random, preferring late ones."""
        stored = [
            job.job_id
            for job in self._records.jobs
            if job.job_id is not None and (job.account == self._account) is own
        ]
        return stored[int(draw.random() ** 0.5 * len(stored))] if stored else None
