"""Producers that call functions. Each repeats a call with the same key if its result was lost."""

import itertools
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import asyncpg

from producers import control
from producers.immediate_opt_out import OptOutReceipt, opt_out_immediately
from producers.imports import submit_import
from producers.submit import submit
from runtime.settings import Settings
from schemas.errors import StateConflict
from schemas.outcomes import JobState
from schemas.requests import FIELD_NAMES, JobRequest, Selection
from tests.chaos.acknowledgements import AcknowledgedJob, AcknowledgedOptOut, Records
from tests.chaos.contact_lists import ContactList
from tests.chaos.fixtures import SampleContact
from tests.chaos.observer import retry_until_answered

BULK = "chaos"
"""The actor that submits the bulk jobs which may be paused, resumed and cancelled."""

RECIPIENT = "recipient"
FAULT = "fault"
CANARY = "canary"

EVIDENCE = {
    "source": "verbal",
    "description": "asked at the counter, one by one",
    "collected_from": "2020-01-01",
    "collected_until": "2020-02-01",
    "attested_by": "the shop",
}


class BulkRequest(NamedTuple):
    """A bulk job that a producer submits."""

    account: str
    action: str
    selection: Selection
    fields: tuple[str, ...] = ("email1",)
    params: Mapping[str, Any] = MappingProxyType({})
    requested_by: str = BULK
    completion_url: str | None = None


class PythonClient:
    """Calls the functions of `producers` as a careful service does."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, records: Records) -> None:
        self._pool = pool
        self._settings = settings
        self.records = records
        self._numbers = itertools.count(1)

    async def submit(self, wanted: BulkRequest) -> int:
        """Submit a job and return its id."""
        request = self._request(wanted)
        answer = await self._acknowledged(lambda: submit(self._pool, self._settings, request))
        expects_webhook = wanted.completion_url is not None
        return self._keep(
            answer.job_id, wanted.account, request.idempotency_key, expects_webhook=expects_webhook
        )

    async def import_list(self, contacts: ContactList, *, permission: bool, tag: str | None) -> int:
        """Import a list and return the job's id."""
        key = self._key("import")

        def ask() -> Awaitable[Any]:
            return submit_import(
                self._pool,
                self._settings,
                file=contacts.csv(),
                account=contacts.account,
                permission=permission,
                tag=tag,
                requested_by=BULK,
                idempotency_key=key,
            )

        answer = await self._acknowledged(ask)
        return self._keep(answer.job_id, contacts.account, key)

    async def opt_out(
        self, account: str, contact: SampleContact, field: int, kind: str
    ) -> OptOutReceipt:
        """Opt one address out for its recipient, and return the result."""
        request = self._request(
            BulkRequest(
                account=account,
                action="opt_out",
                selection=Selection(contacts=(contact.contact_id,)),
                fields=(FIELD_NAMES[field],),
                params={"kind": kind},
                requested_by=RECIPIENT,
            )
        )
        answer: OptOutReceipt = await self._acknowledged(
            lambda: opt_out_immediately(self._pool, self._settings, request)
        )
        self._keep(answer.job_id, account, request.idempotency_key)
        self.records.opt_outs.append(
            AcknowledgedOptOut(answer.job_id, contact.contact_id, field, contact.addresses[field])
        )
        return answer

    async def pause(self, job_id: int) -> bool:
        """Pause the job; return False if it has ended."""
        return await self._control(control.pause, job_id) is JobState.PAUSED

    async def resume(self, job_id: int) -> bool:
        """Resume a paused job; no request to do so outlives this call."""
        await self._control(control.resume, job_id)
        return True

    async def cancel(self, job_id: int) -> bool:
        """Cancel the job; return False if it has ended."""
        return await self._control(control.cancel, job_id) is JobState.CANCELLED

    async def _control(self, change: Callable[..., Awaitable[JobState]], job_id: int) -> Any:
        """Return the resulting state, or None if the job had ended."""
        try:
            state, _ = await retry_until_answered(
                lambda: change(self._pool, self._settings, None, job_id)
            )
        except StateConflict:
            return None
        return state

    async def _acknowledged(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        answer, lost = await retry_until_answered(ask)
        if lost:
            self.records.resubmitted += 1
            self.records.answered_twice += not answer.created
        return answer

    def _request(self, wanted: BulkRequest) -> JobRequest:
        return JobRequest(
            **wanted._asdict() | {"params": dict(wanted.params)},
            evidence=EVIDENCE if wanted.action == "opt_in" else None,
            idempotency_key=self._key(wanted.action),
        )

    def _key(self, what: str) -> str:
        return f"chaos {what} {next(self._numbers)}"

    def _keep(
        self, job_id: int, account: str, key: str | None, *, expects_webhook: bool = False
    ) -> int:
        assert key is not None
        self.records.jobs.append(AcknowledgedJob(job_id, account, key, expects_webhook))
        return job_id
