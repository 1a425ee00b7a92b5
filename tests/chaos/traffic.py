"""The storm's traffic at work: the planned requests, made at their times."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any

from schemas.requests import Selection
from tests.chaos.contact_lists import TAGS, ContactList
from tests.chaos.controls import ControlDoor, Controls
from tests.chaos.fixtures import People
from tests.chaos.observer import Observer
from tests.chaos.opt_out_checks import not_in_force
from tests.chaos.producers import BULK, Bulk, Producers
from tests.chaos.records import Violation
from tests.chaos.traffic_plan import (
    PYTHON,
    SUPPRESSING,
    PlannedControl,
    PlannedImport,
    PlannedJob,
    PlannedOptOut,
    PlannedRead,
    Traffic,
)
from tests.chaos.waiting import within
from tests.chaos.web_doors import WebDoors
from tests.chaos.web_plans import plan_and_apply
from tests.chaos.web_recipients import Recipient

ANSWERED = "every producer gets its answer"

MOST_UNFINISHED = 12
"""So many bulk jobs may be under way; a producer waits with the next until there are fewer."""

_MOST_AT_ONCE = 30


class TrafficAtWork:
    """Makes the planned requests. Requests of one kind do not wait for each other's answers.

    `told_at` is the URL of who is told how jobs ended.
    """

    def __init__(
        self,
        plan: Traffic,
        producers: Producers,
        web: Mapping[str, WebDoors],
        observer: Observer,
        *,
        people: Mapping[str, People],
        told_at: str,
    ) -> None:
        self._plan = plan
        self._producers = producers
        self._web = web
        self._observer = observer
        self._people = people
        self._told_at = told_at
        self._controls = Controls(observer, producers.records)
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
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
                (self._plan.reads, self._read),
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

    async def _unfinished(self) -> list[tuple[int, str]]:
        """The ids of the bulk jobs that have not ended, and their accounts."""
        rows = await self._observer.rows("unfinished", requested_by=BULK)
        return [(row["id"], row["account"]) for row in rows]

    async def _job(self, planned: PlannedJob) -> None:
        params = {}
        if planned.action == "mark":
            params = {"status": SUPPRESSING[int(planned.draw * len(SUPPRESSING))]}
        wanted = Bulk(
            planned.account,
            planned.action,
            self._selection(planned),
            planned.fields,
            params,
            completion_url=self._told_at if planned.to_be_told else None,
        )
        job_id = await self._submit(planned, wanted)
        door = self._control_door(planned.door, planned.account)
        if planned.at_once == "pause":
            paused = await self._controls.pause_for(door, job_id, 1.0, "resume")
            if planned.until_paused and not paused and not self._over.is_set():
                await self._job(planned)
        elif planned.at_once == "cancel":
            await self._controls.cancel(door, job_id)

    async def _submit(self, planned: PlannedJob, wanted: Bulk) -> int:
        web = self._web[planned.account].producers
        if planned.door == "json":
            return await web.submit(wanted, again=planned.again)
        if planned.door == "file":
            return await web.submit_file(wanted, again=planned.again)
        if planned.door == "plan":
            records = self._producers.records
            return await plan_and_apply(web, self._controls, self._observer, records, wanted)
        return await self._producers.submit(wanted)

    def _selection(self, planned: PlannedJob) -> Selection:
        if planned.by == "contacts" or planned.door == "file":
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
        people = self._people[planned.account]
        person = people.one(planned.draw)
        fields = sorted(person.addresses)
        field = fields[int(planned.draw * 1e6) % len(fields)]
        address = person.addresses[field]
        if planned.door == PYTHON:
            done = await self._producers.opt_out(planned.account, person, field, planned.kind)
            if done.applied:
                self._producers.records.seen += await not_in_force(
                    self._observer, planned.account, address_id=address, key=f"job {done.job_id}"
                )
            return
        if planned.new:
            who = Recipient(people.newcomer(planned.draw), None, planned.kind, planned.again)
        else:
            text = await self._observer.value("address_of", address_id=address)
            who = Recipient(text, address, planned.kind, planned.again)
        await self._web[planned.account].recipients.doors[planned.door](who)

    async def _read(self, planned: PlannedRead) -> None:
        read = self._web[planned.account].readers.reads[planned.what]
        await read(Random(planned.draw))

    async def _control(self, planned: PlannedControl) -> None:
        unfinished = await self._unfinished()
        if not unfinished:
            return
        job_id, account = unfinished[int(planned.draw * len(unfinished))]
        door = self._control_door(planned.door, account)
        if planned.what == "pause":
            await self._controls.pause_for(door, job_id, planned.pause, planned.then)
        else:
            await self._controls.cancel(door, job_id)

    def _control_door(self, door: str, account: str) -> ControlDoor:
        return self._producers if door == PYTHON else self._web[account].producers
