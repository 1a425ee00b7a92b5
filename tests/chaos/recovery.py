"""How long the service takes to make a fault good, counted from the moment its cause ended."""

import asyncio
import time
from typing import NamedTuple

from schemas.requests import Selection
from tests.chaos.fixtures import People
from tests.chaos.observer import AtWork, Observer
from tests.chaos.preparing import CANARIES
from tests.chaos.producers import CANARY, Bulk, Producers
from tests.chaos.schedule import Kind
from tests.chaos.web_recovery import WebRecoveries

GOAL_SECONDS = 15.0
_SET_BACK_NOBODY = (
    Kind.DOORBELLS_TRIPLED,
    Kind.DECISION_RAISES,
    Kind.WRITE_FAILS,
    Kind.WEB_KILLED,
    Kind.WEB_TERMINATED,
    Kind.WEB_STOPPED,
)
"""What should cost other jobs no time, so that no other fault's clock starts again for it."""

_GIVE_UP_SECONDS = 120.0
_LOOK_SECONDS = 0.2


class Recovery(NamedTuple):
    """A fault that was made good, or was not where `seconds` is None.

    `seconds` counts from the end of its cause, or of the last other one that ended before it was
    made good; `after_own` always from its own, and so does `new_job`, which is when a new job of
    one contact was done. `web` counts as `seconds` does, until the web process was ready.
    `standing` tells what stood still for so long that it was looked at.
    """

    kind: Kind
    seconds: float | None
    after_own: float
    new_job: float | None
    web: float | None
    standing: list[str]


class Recoveries:
    """Watches over the service after each fault, with a job of one contact and those at work."""

    def __init__(
        self, observer: Observer, producers: Producers, canaries: People, web: WebRecoveries
    ) -> None:
        self._web = web
        self._observer = observer
        self._producers = producers
        self._canaries = canaries
        self._ends: list[float] = []
        self.made: list[Recovery] = []

    async def watch(self, kind: Kind, draw: float) -> None:
        """Note what is at work now, and wait until a new small job is done, each has moved, and
        the web process is ready.
        """
        ended = time.monotonic()
        async with asyncio.TaskGroup() as group:
            web = group.create_task(self._web.after(ended))
            recovery = await self._of_jobs(kind, draw, ended)
        self.made.append(recovery._replace(web=web.result()))

    async def _of_jobs(self, kind: Kind, draw: float, ended: float) -> Recovery:
        if kind not in _SET_BACK_NOBODY:
            self._ends.append(ended)
        noted = await self._observer.at_work()
        canary = await self._producers.submit(
            Bulk(
                CANARIES,
                "opt_in",
                Selection(contacts=(self._canaries.one(draw).contact_id,)),
                requested_by=CANARY,
            )
        )
        new_job: float | None = None
        standing: list[str] = []
        while noted or new_job is None:
            passed = time.monotonic() - ended
            if passed > _GIVE_UP_SECONDS:
                return Recovery(kind, None, passed, new_job, None, standing)
            if not standing and passed > GOAL_SECONDS:
                standing = await self._standing([job.job_id for job in noted])
            await asyncio.sleep(_LOOK_SECONDS)
            noted = await self._still(noted)
            if new_job is None and await self._completed(canary):
                new_job = time.monotonic() - ended
        now = time.monotonic()
        last_end = max([ended, *(end for end in self._ends if end <= now)])
        return Recovery(kind, now - last_end, now - ended, new_job, None, standing)

    async def _still(self, noted: list[AtWork]) -> list[AtWork]:
        moved = await self._observer.moved(noted) if noted else set()
        return [job for job in noted if job.job_id not in moved]

    async def _completed(self, job_id: int) -> bool:
        return bool(await self._observer.value("state_of", job_id=job_id) == "completed")

    async def _standing(self, jobs: list[int]) -> list[str]:
        return [
            f"job {row['id']} {row['action']} is {row['state']}, {row['pending']} chunks left,"
            f" {row['lanes']}"
            for row in await self._observer.rows("standstill", jobs=jobs)
        ]
