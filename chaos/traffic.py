"""The storm's traffic at work: the planned requests, made at their times."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chaos.contact_lists import TAGS, ContactList
from chaos.observer import Observer
from chaos.people import People
from chaos.producers import BULK, Bulk, Producers
from chaos.records import Violation
from chaos.traffic_plan import (
    SUPPRESSING,
    PlannedControl,
    PlannedImport,
    PlannedJob,
    PlannedOptOut,
    Traffic,
)
from chaos.waiting import within
from schemas.requests import Selection

IN_FORCE = "an opt-out that is said to be applied is in force"
ANSWERED = "every producer gets its answer"

MOST_UNFINISHED = 12
"""So many bulk jobs may be under way; a producer waits with the next until there are fewer."""

_MOST_AT_ONCE = 30


class TrafficAtWork:
    """Makes the planned requests. Requests of one kind do not wait for each other's answers."""

    def __init__(
        self, plan: Traffic, producers: Producers, observer: Observer, people: dict[str, People]
    ) -> None:
        self._plan = plan
        self._producers = producers
        self._observer = observer
        self._people = people
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self._in_hand: set[int] = set()
        self._over = asyncio.Event()

    def stop(self) -> None:
        """Ask for nothing new."""
        self._over.set()

    async def run(self, began: float) -> None:
        """Until it is stopped; what was asked by then has been answered."""
        async with asyncio.TaskGroup() as group:
            for planned, ask in (
                (self._plan.jobs, self._job),
                (self._plan.controls, self._control),
                (self._plan.imports, self._import),
                (self._plan.opt_outs, self._opt_out),
            ):
                group.create_task(self._at_their_times(began, planned, ask))

    async def _at_their_times(
        self, began: float, planned: Sequence[Any], ask: Callable[[Any], Awaitable[None]]
    ) -> None:
        async with asyncio.TaskGroup() as group:
            for one in planned:
                if await self._over_before(began + one.at):
                    return
                if ask in (self._job, self._import):
                    await self._until_there_is_room()
                group.create_task(self._within_room(ask, one))

    async def _over_before(self, moment: float) -> bool:
        try:
            async with asyncio.timeout_at(moment):
                return await self._over.wait()
        except TimeoutError:
            return False

    async def _within_room(self, ask: Callable[[Any], Awaitable[None]], one: Any) -> None:
        async with self._room:
            try:
                await ask(one)
            except Exception as error:  # noqa: BLE001 - whatever it is, a producer was let down
                text = f"{type(one).__name__}: {type(error).__name__}: {str(error)[:200]}"
                self._producers.records.seen.append(Violation(ANSWERED, text))

    async def _until_there_is_room(self) -> None:
        async def is_room() -> bool:
            return self._over.is_set() or len(await self._unfinished()) < MOST_UNFINISHED

        await within(math.inf, is_room)

    async def _unfinished(self) -> list[int]:
        return [row["id"] for row in await self._observer.rows("unfinished", requested_by=BULK)]

    async def _job(self, planned: PlannedJob) -> None:
        params = {}
        if planned.action == "mark":
            params = {"status": SUPPRESSING[int(planned.draw * len(SUPPRESSING))]}
        job_id = await self._producers.submit(
            Bulk(
                planned.account,
                planned.action,
                self._selection(planned),
                planned.fields,
                params,
            )
        )
        if planned.at_once == "pause":
            await self._pause_for(job_id, 1.0, "resume")
        elif planned.at_once == "cancel":
            await self._cancel(job_id)

    def _selection(self, planned: PlannedJob) -> Selection:
        if planned.by == "contacts":
            contacts = self._people[planned.account].some(planned.draw, planned.size)
            return Selection(contacts=contacts)
        if planned.by == "tag":
            return Selection(tag=TAGS[int(planned.draw * len(TAGS))])
        if planned.by == "status":
            return Selection(statuses=("non_marketable", "single_opt_in"))
        return Selection(all=True)

    async def _import(self, planned: PlannedImport) -> None:
        # From among those that are there already to some beyond, who are new.
        known = len(self._people[planned.account].everyone)
        first = int(planned.draw * known)
        number = int(planned.at * 1000) + 1
        contacts = ContactList(planned.account, number, first, planned.contacts)
        await self._producers.bring(contacts, permission=planned.permission, tag="storm")

    async def _opt_out(self, planned: PlannedOptOut) -> None:
        person = self._people[planned.account].one(planned.draw)
        fields = sorted(person.addresses)
        field = fields[int(planned.draw * 1e6) % len(fields)]
        applied = await self._producers.opt_out(planned.account, person, field, planned.kind)
        address = person.addresses[field]
        if applied and not await self._observer.value("is_opted_out", address_id=address):
            text = f"address {address} was not opted out when that was answered"
            self._producers.records.seen.append(Violation(IN_FORCE, text))

    async def _control(self, planned: PlannedControl) -> None:
        unfinished = await self._unfinished()
        if not unfinished:
            return
        job_id = unfinished[int(planned.draw * len(unfinished))]
        if planned.what == "pause":
            await self._pause_for(job_id, planned.pause, planned.then)
        else:
            await self._cancel(job_id)

    async def _pause_for(self, job_id: int, seconds: float, then: str) -> None:
        if job_id in self._in_hand:
            return
        with self._taken_in_hand(job_id):
            if not await self._producers.pause(job_id):
                return
            self._producers.records.paused += 1
            await self._expect_no_change(job_id, seconds, "a paused job changes nothing")
            if then == "resume":
                await self._producers.resume(job_id)
        if then == "cancel":
            await self._cancel(job_id)

    async def _cancel(self, job_id: int) -> None:
        if job_id in self._in_hand:
            return
        with self._taken_in_hand(job_id):
            if await self._producers.cancel(job_id):
                self._producers.records.cancelled += 1
                await self._expect_no_change(job_id, 0.5, "a cancelled job changes nothing")

    @contextmanager
    def _taken_in_hand(self, job_id: int) -> Iterator[None]:
        """Two at once would undo what the other one has just asked for."""
        self._in_hand.add(job_id)
        try:
            yield
        finally:
            self._in_hand.discard(job_id)

    async def _expect_no_change(self, job_id: int, seconds: float, check: str) -> None:
        before = await self._observer.value("result_rows", job_id=job_id)
        await asyncio.sleep(seconds)
        after = await self._observer.value("result_rows", job_id=job_id)
        if before != after:
            text = f"job {job_id} has {after - before} results more than when that was answered"
            self._producers.records.seen.append(Violation(check, text))
