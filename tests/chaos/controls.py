"""Pause, resume and cancel jobs during a chaos run, and check that they stay so."""

import asyncio
from typing import Protocol

from tests.chaos.acknowledgements import Records, Violation
from tests.chaos.observer import Observer

PAUSED = "a paused job changes nothing"
CANCELLED = "a cancelled job changes nothing"

_CANCELLED_SECONDS = 0.5
"""The time for which a cancelled job is observed."""


class JobController(Protocol):
    """An entry point through which jobs are controlled."""

    async def pause(self, job_id: int) -> bool:
        """Pause the job; return False if it has ended."""

    async def resume(self, job_id: int) -> bool:
        """Resume a paused job; return whether no request to do so can still be under way."""

    async def cancel(self, job_id: int) -> bool:
        """Cancel the job; return False if it has ended."""


class Controls:
    """Controls each job from one place at a time: two would undo each other's requests."""

    def __init__(self, observer: Observer, records: Records) -> None:
        self._observer = observer
        self._records = records
        self._reserved: set[int] = set()

    async def pause_for(
        self, entry_point: JobController, job_id: int, seconds: float, then: str
    ) -> bool:
        """Pause the job, and resume or cancel it after this time; return whether it was paused."""
        if job_id in self._reserved:
            return False
        self._reserved.add(job_id)
        if not await entry_point.pause(job_id):
            self._reserved.discard(job_id)
            return False
        self._records.paused += 1
        await self._expect_no_change(job_id, seconds, PAUSED)
        # A late request to resume would undo the next pause, so such a job stays reserved.
        if then == "cancel" or await entry_point.resume(job_id):
            self._reserved.discard(job_id)
        if then == "cancel":
            await self.cancel(entry_point, job_id)
        return True

    async def cancel(self, entry_point: JobController, job_id: int) -> None:
        """Cancel the job, unless it is being controlled already."""
        if job_id in self._reserved:
            return
        self._reserved.add(job_id)
        self._records.to_be_cancelled.add(job_id)
        if await entry_point.cancel(job_id):
            self._records.cancelled += 1
            await self._expect_no_change(job_id, _CANCELLED_SECONDS, CANCELLED)
        self._reserved.discard(job_id)

    async def _expect_no_change(self, job_id: int, seconds: float, check: str) -> None:
        before = await self._observer.value("result_rows", job_id=job_id)
        await asyncio.sleep(seconds)
        after = await self._observer.value("result_rows", job_id=job_id)
        if before != after:
            text = f"job {job_id} got {after - before} more results after the answer"
            self._records.violations.append(Violation(check, text))
