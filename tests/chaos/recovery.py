"""Measure how long the service takes to recover from a fault, from the end of its cause."""

import asyncio
import time
from typing import NamedTuple

from schemas.requests import Selection
from tests.chaos.fault_plan import Kind
from tests.chaos.fixtures import SampleContacts
from tests.chaos.observer import JobProgress, Observer
from tests.chaos.python_client import CANARY, BulkRequest, PythonClient
from tests.chaos.setup import CANARIES
from tests.chaos.web_recovery import WebRecoveryWatcher

GOAL_SECONDS = 15.0
_KINDS_WITHOUT_DELAY = (
    Kind.MESSAGES_TRIPLED,
    Kind.DECISION_RAISES,
    Kind.WRITE_FAILS,
    Kind.WEB_KILLED,
    Kind.WEB_TERMINATED,
    Kind.WEB_STOPPED,
)
"""Kinds that must not delay other jobs, so they restart the clock of no other fault."""

_GIVE_UP_SECONDS = 120.0
_POLL_SECONDS = 0.2


class Recovery(NamedTuple):
    """The recovery from a fault; `seconds` is None if there was none.

    `seconds` counts from the end of the latest cause before the recovery, `after_own_end` from the
    end of this fault's own cause. `new_job` counts from there until a new job of one contact was
    done. `web` counts like `seconds` until the web process was ready. `stalled` describes the jobs
    that had not advanced in time.
    """

    kind: Kind
    seconds: float | None
    after_own_end: float
    new_job: float | None
    web: float | None
    stalled: list[str]


class RecoveryWatcher:
    """Watches the running jobs and a new job of one contact after each fault."""

    def __init__(
        self,
        observer: Observer,
        producers: PythonClient,
        canaries: SampleContacts,
        web: WebRecoveryWatcher,
    ) -> None:
        self._web = web
        self._observer = observer
        self._producers = producers
        self._canaries = canaries
        self._ends: list[float] = []
        self.results: list[Recovery] = []

    async def watch(self, kind: Kind, draw: float) -> None:
        """Wait until a new small job is done, each running job has advanced, and the web process is
        ready.
        """
        ended = time.monotonic()
        async with asyncio.TaskGroup() as group:
            web = group.create_task(self._web.after(ended))
            recovery = await self._watch_jobs(kind, draw, ended)
        self.results.append(recovery._replace(web=web.result()))

    async def _watch_jobs(self, kind: Kind, draw: float, ended: float) -> Recovery:
        if kind not in _KINDS_WITHOUT_DELAY:
            self._ends.append(ended)
        noted = await self._observer.active_jobs()
        canary = await self._producers.submit(
            BulkRequest(
                CANARIES,
                "opt_in",
                Selection(contacts=(self._canaries.pick(draw).contact_id,)),
                requested_by=CANARY,
            )
        )
        new_job: float | None = None
        stalled: list[str] = []
        while noted or new_job is None:
            passed = time.monotonic() - ended
            if passed > _GIVE_UP_SECONDS:
                return Recovery(kind, None, passed, new_job, None, stalled)
            if not stalled and passed > GOAL_SECONDS:
                stalled = await self._describe_stalled([job.job_id for job in noted])
            await asyncio.sleep(_POLL_SECONDS)
            noted = await self._keep_unmoved(noted)
            if new_job is None and await self._is_completed(canary):
                new_job = time.monotonic() - ended
        now = time.monotonic()
        last_end = max([ended, *(end for end in self._ends if end <= now)])
        return Recovery(kind, now - last_end, now - ended, new_job, None, stalled)

    async def _keep_unmoved(self, noted: list[JobProgress]) -> list[JobProgress]:
        advanced = await self._observer.find_advanced(noted) if noted else set()
        return [job for job in noted if job.job_id not in advanced]

    async def _is_completed(self, job_id: int) -> bool:
        return bool(await self._observer.value("state_of", job_id=job_id) == "completed")

    async def _describe_stalled(self, jobs: list[int]) -> list[str]:
        return [
            f"job {row['id']} {row['action']} is {row['state']}, {row['pending']} chunks left,"
            f" {row['lanes']}"
            for row in await self._observer.rows("stalled_jobs", jobs=jobs)
        ]
