"""A service that submits jobs over HTTP, with an API key of its account."""

import asyncio
import itertools
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from schemas.outcomes import FINAL_STATES, JobState
from tests.chaos.acknowledgements import AcknowledgedJob, DisclosedId, Records, Violation
from tests.chaos.observer import ANSWER_SECONDS
from tests.chaos.python_client import EVIDENCE, BulkRequest
from tests.chaos.web_client import Answer, WebClient

REPLAYED = "a repeated HTTP request makes no second job"
OWN_ANSWER = "an HTTP response belongs to its request"

_LISTING = frozenset({"contacts"})
_CONTROLS = (HTTPStatus.OK, HTTPStatus.CONFLICT)
_APPLIES = (HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT)
_COUNTS = ("applied", "unchanged", "rejected", "propagated")
_WAIT = {"Prefer": "wait=2"}
"""Less than a client waits for a response."""

_POLL_SECONDS = 0.5


class WebProducers:
    """Uses the routes for jobs as a careful service of one account does."""

    def __init__(self, account: str, client: WebClient, records: Records) -> None:
        self._account = account
        self._client = client
        self._records = records
        self._numbers = itertools.count(1)

    async def submit(self, bulk_request: BulkRequest, *, again: bool = False) -> int:
        """Submit a job and return its id; `again` repeats the request, which must
        change nothing.
        """
        return await self._submit(bulk_request, again=again, json=_job_json(bulk_request))

    async def submit_file(self, bulk_request: BulkRequest, *, again: bool = False) -> int:
        """Submit an import with its file, and return the job's id."""
        listed = bulk_request.selection.contacts or ()
        files = {
            "job": (None, json.dumps(_job_json(bulk_request, leave_out=_LISTING))),
            "contacts": ("contacts.csv", "\n".join(["contact_id", *map(str, listed)])),
        }
        return await self._submit(bulk_request, again=again, files=files)

    async def plan(self, bulk_request: BulkRequest) -> int:
        """Submit a job that waits for confirmation; return its id."""
        return await self._submit(
            bulk_request, json=_job_json(bulk_request) | {"mode": "plan"}, headers=_WAIT
        )

    async def planned(self, job_id: int) -> dict[str, Any] | None:
        """Wait for the forecast and return it, or None if the job runs or has ended."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            job = (await self._ask("look at a plan", "GET", f"/v1/jobs/{job_id}", _WAIT)).body
            if job["state"] == JobState.PLANNED:
                return {name: job["forecast"][name] for name in _COUNTS}
            if job["state"] == JobState.RUNNING or job["state"] in FINAL_STATES:
                return None
            await asyncio.sleep(_POLL_SECONDS)
        raise TimeoutError(f"job {job_id} was not planned for a long time")

    async def apply(self, job_id: int, expected: Mapping[str, int]) -> None:
        """Confirm the counts; they may have drifted, or the job may have ended."""
        await self._ask(
            "apply a plan",
            "POST",
            f"/v1/jobs/{job_id}/apply",
            _WAIT,
            accepts=_APPLIES,
            json={"expected": dict(expected)},
        )

    async def pause(self, job_id: int) -> bool:
        """Pause the job; return False if it has ended."""
        return (await self._control("pause", job_id)) == JobState.PAUSED

    async def resume(self, job_id: int) -> bool:
        """Resume a paused job; return whether no request to do so can still be under way."""
        answer = await self._ask(
            "resume a job", "POST", f"/v1/jobs/{job_id}/resume", accepts=_CONTROLS
        )
        return not answer.lost

    async def cancel(self, job_id: int) -> bool:
        """Cancel the job; return False if it has ended."""
        return (await self._control("cancel", job_id)) == JobState.CANCELLED

    async def _control(self, what: str, job_id: int) -> str | None:
        """Return the state in the response, or None if the job had ended."""
        path = f"/v1/jobs/{job_id}/{what}"
        answer = await self._ask(f"{what} a job", "POST", path, accepts=_CONTROLS)
        return answer.body["state"] if answer.status == HTTPStatus.OK else None

    async def _submit(
        self, bulk_request: BulkRequest, *, again: bool = False, **request: Any
    ) -> int:
        key = f"web {bulk_request.action} {next(self._numbers)}"
        headers = {"Idempotency-Key": key, **request.pop("headers", {})}
        answer = await self._ask("submit a job", "POST", "/v1/jobs", headers, **request)
        job_id: int = answer.body["id"]
        self._keep(answer, job_id, key, bulk_request)
        if again:
            repeated = await self._ask("submit it again", "POST", "/v1/jobs", headers, **request)
            if (repeated.status, repeated.body["id"]) != (HTTPStatus.OK, job_id):
                self._report_violation(
                    REPLAYED, f"job {job_id}: {repeated.status}, {repeated.body['id']}"
                )
        return job_id

    def _keep(self, answer: Answer, job_id: int, key: str, bulk_request: BulkRequest) -> None:
        expects_webhook = bulk_request.completion_url is not None
        self._records.jobs.append(AcknowledgedJob(job_id, self._account, key, expects_webhook))
        if answer.lost:
            self._records.resubmitted += 1
            self._records.answered_twice += answer.status == HTTPStatus.OK
        job = answer.body
        if (job["idempotency_key"], job["action"]) != (key, bulk_request.action):
            self._report_violation(
                OWN_ANSWER, f"job {job_id} was answered with another key or action"
            )

    async def _ask(
        self,
        what: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        answer = await self._client.ask(what, method, path, headers=headers, **options)
        if "id" in answer.body:
            self._records.disclosed_jobs.add(DisclosedId(self._account, answer.body["id"]))
        return answer

    def _report_violation(self, check: str, what: str) -> None:
        self._records.violations.append(Violation(check, what))


def _job_json(bulk_request: BulkRequest, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the job as JSON, without the account, which the API key determines."""
    selection = bulk_request.selection.model_dump(
        mode="json", exclude_defaults=True, exclude=leave_out
    )
    body = {
        "action": bulk_request.action,
        "selection": selection,
        "fields": bulk_request.fields,
        "params": dict(bulk_request.params),
        "evidence": EVIDENCE if bulk_request.action == "opt_in" else None,
        "requested_by": bulk_request.requested_by,
        "completion_url": bulk_request.completion_url,
    }
    return {name: value for name, value in body.items() if value is not None}
