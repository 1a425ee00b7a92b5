"""Readers over HTTP, who leave in the middle, and whom nothing of another account must reach."""

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

COMPLETE_STREAM = "a stream of results that comes to its end has all of them"
FOREIGN = "no other account's job is there for a key"
FOLLOWED = "who follows a job is told its end when it has ended"

_LEFT_AFTER = 40
"""So many lines at most are read by those who leave."""

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
    """Those of one account."""

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
        """All of a job's results in a stream, or the first few of them."""
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
            # It broke off, and whoever reads it knows.
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
        there = await self._observer.value("result_rows", job_id=job_id)
        if ended and read != there:
            text = f"job {job_id} has {there} results, and {read} were sent"
            self._records.violations.append(Violation(COMPLETE_STREAM, text))

    async def _follow(self, draw: Random) -> None:
        """A job's events until it has ended, or the first few of them."""
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
                    text = f"job {job_id} was said to have ended, and is {state}"
                    self._records.violations.append(Violation(FOLLOWED, text))
            if lines > _FOLLOWED_FOR:
                return

    async def _list_jobs(self, _draw: Random) -> None:
        """A page of the account's jobs."""
        page = (await self._client.ask("list jobs", "GET", "/v1/jobs?limit=100")).body
        self._records.disclosed_jobs.update(
            DisclosedId(self._account, job["id"]) for job in page["jobs"]
        )

    async def _find_contacts(self, _draw: Random) -> None:
        """A page of the account's contacts."""
        path = "/v1/contacts?status=manual&limit=50"
        page = (await self._client.ask("find contacts", "GET", path)).body
        found = (contact["id"] for contact in page["contacts"])
        self._records.disclosed_contacts.update(DisclosedId(self._account, id_) for id_ in found)

    async def _request_foreign_job(self, draw: Random) -> None:
        """A job of another account, which has to be as if it were not there."""
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
        """A job by chance, of those that were acknowledged by now; rather a late one."""
        there = [
            job.job_id
            for job in self._records.jobs
            if job.job_id is not None and (job.account == self._account) is own
        ]
        return there[int(draw.random() ** 0.5 * len(there))] if there else None
