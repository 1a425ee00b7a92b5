"""How long the service takes to make a fault good, counted from the moment its cause ended."""

import asyncio
import time
from typing import NamedTuple

from chaos.observer import AtWork, Observer
from chaos.people import People
from chaos.producers import CANARY, Bulk, Producers
from chaos.schedule import Kind
from schemas.requests import Selection

GOAL_SECONDS = 15.0
_GIVE_UP_SECONDS = 120.0
_LOOK_SECONDS = 0.2


class Recovery(NamedTuple):
    """A fault that was made good, or was not where `seconds` is None.

    `seconds` counts from the end of its cause, or of the last other one that ended before it was
    made good; `after_own` always from its own.
    """

    kind: Kind
    seconds: float | None
    after_own: float


class Recoveries:
    """Watches over the service after each fault, with a job of one contact and those at work."""

    def __init__(self, observer: Observer, producers: Producers, canaries: People) -> None:
        self._observer = observer
        self._producers = producers
        self._canaries = canaries
        self._ends: list[float] = []
        self.made: list[Recovery] = []

    async def watch(self, kind: Kind, draw: float) -> None:
        """Note what is at work now, and wait until a new small job is done and each has moved."""
        ended = time.monotonic()
        self._ends.append(ended)
        noted = await self._observer.at_work()
        canary = await self._producers.submit(
            Bulk(
                "canary",
                "opt_in",
                Selection(contacts=(self._canaries.one(draw).contact_id,)),
                requested_by=CANARY,
            )
        )
        while not await self._good(noted, canary):
            if time.monotonic() > ended + _GIVE_UP_SECONDS:
                self.made.append(Recovery(kind, None, time.monotonic() - ended))
                return
            await asyncio.sleep(_LOOK_SECONDS)
        now = time.monotonic()
        last_end = max(end for end in self._ends if end <= now)
        self.made.append(Recovery(kind, now - last_end, now - ended))

    async def _good(self, noted: list[AtWork], canary: int) -> bool:
        if noted:
            moved = await self._observer.moved(noted)
            noted[:] = [job for job in noted if job.job_id not in moved]
        state = await self._observer.value("state_of", job_id=canary)
        return not noted and state == "completed"
