"""Make the planned requests at their times."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any

from schemas.requests import Selection
from tests.chaos.account_clients import AccountClients
from tests.chaos.acknowledgements import Violation
from tests.chaos.contact_lists import TAGS, ContactList
from tests.chaos.controls import Controls, JobController
from tests.chaos.fixtures import SampleContacts
from tests.chaos.observer import Observer
from tests.chaos.opt_out_checks import find_ineffective_opt_outs
from tests.chaos.python_client import BULK, BulkRequest, PythonClient
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
from tests.chaos.web_plans import run_plan
from tests.chaos.web_recipients import Recipient
from tests.kit.waiting import wait_for_async

ANSWERED = "every producer gets an answer"

MAX_UNFINISHED_JOBS = 12
"""The maximum of active bulk jobs; a producer waits before it submits another."""

_MAX_CONCURRENT_REQUESTS = 30


class TrafficRunner:
    """Makes the planned requests. Requests of one kind do not wait for each other's answers.

    `completion_url` is the URL for completion webhooks.
    """

    def __init__(
        self,
        plan: Traffic,
        producers: PythonClient,
        web: Mapping[str, AccountClients],
        observer: Observer,
        *,
        contacts: Mapping[str, SampleContacts],
        completion_url: str,
    ) -> None:
        self._plan = plan
        self._producers = producers
        self._web = web
        self._observer = observer
        self._contacts = contacts
        self._completion_url = completion_url
        self._controls = Controls(observer, producers.records)
        self._room = asyncio.Semaphore(_MAX_CONCURRENT_REQUESTS)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Start no further requests."""
        self._stopped.set()

    async def run(self, began: float) -> None:
        """Run until stopped, and until the requests made so far have been answered."""
        async with asyncio.TaskGroup() as group:
            for planned, ask in (
                (self._plan.jobs, self._job),
                (self._plan.controls, self._control),
                (self._plan.imports, self._import),
                (self._plan.opt_outs, self._opt_out),
                (self._plan.reads, self._read),
            ):
                group.create_task(self._send_at_times(began, planned, ask))

    async def _send_at_times(
        self, began: float, planned: Sequence[Any], ask: Callable[[Any], Awaitable[None]]
    ) -> None:
        async with asyncio.TaskGroup() as group:
            for one in planned:
                if await self._has_stopped_before(began + one.at):
                    return
                if ask in (self._job, self._import):
                    await self._wait_for_room()
                group.create_task(self._send(ask, one))

    async def _has_stopped_before(self, moment: float) -> bool:
        try:
            async with asyncio.timeout_at(moment):
                return await self._stopped.wait()
        except TimeoutError:
            return False

    async def _send(self, ask: Callable[[Any], Awaitable[None]], one: Any) -> None:
        async with self._room:
            try:
                await ask(one)
            except Exception as error:  # noqa: BLE001 - any error violates the check
                text = f"{type(one).__name__}: {type(error).__name__}: {str(error)[:200]}"
                self._producers.records.violations.append(Violation(ANSWERED, text))

    async def _wait_for_room(self) -> None:
        async def is_room() -> bool:
            return self._stopped.is_set() or len(await self._unfinished()) < MAX_UNFINISHED_JOBS

        await wait_for_async(is_room, math.inf)

    async def _unfinished(self) -> list[tuple[int, str]]:
        """Return the ids of the bulk jobs that have not ended, with their accounts."""
        rows = await self._observer.rows("unfinished", requested_by=BULK)
        return [(row["id"], row["account"]) for row in rows]

    async def _job(self, planned: PlannedJob) -> None:
        params = {}
        if planned.action == "mark":
            params = {"status": SUPPRESSING[int(planned.draw * len(SUPPRESSING))]}
        wanted = BulkRequest(
            planned.account,
            planned.action,
            self._selection(planned),
            planned.fields,
            params,
            completion_url=self._completion_url if planned.expects_webhook else None,
        )
        job_id = await self._submit(planned, wanted)
        entry_point = self._controller(planned.entry_point, planned.account)
        if planned.first_control == "pause":
            paused = await self._controls.pause_for(entry_point, job_id, 1.0, "resume")
            if planned.until_paused and not paused and not self._stopped.is_set():
                await self._job(planned)
        elif planned.first_control == "cancel":
            await self._controls.cancel(entry_point, job_id)

    async def _submit(self, planned: PlannedJob, wanted: BulkRequest) -> int:
        web = self._web[planned.account].producers
        if planned.entry_point == "json":
            return await web.submit(wanted, again=planned.again)
        if planned.entry_point == "file":
            return await web.submit_file(wanted, again=planned.again)
        if planned.entry_point == "plan":
            records = self._producers.records
            return await run_plan(web, self._controls, self._observer, records, wanted)
        return await self._producers.submit(wanted)

    def _selection(self, planned: PlannedJob) -> Selection:
        if planned.selected_by == "contacts" or planned.entry_point == "file":
            contacts = self._contacts[planned.account].pick_many(planned.draw, planned.size)
            return Selection(contacts=contacts)
        if planned.selected_by == "tag":
            return Selection(tag=TAGS[int(planned.draw * len(TAGS))])
        if planned.selected_by == "status":
            return Selection(statuses=("non_marketable", "single_opt_in"))
        return Selection(all=True)

    async def _import(self, planned: PlannedImport) -> None:
        # The list ranges from existing contacts to some new ones.
        known = len(self._contacts[planned.account].contacts)
        first = int(planned.draw * known)
        number = int(planned.at * 1000) + 1
        contacts = ContactList(planned.account, number, first, planned.contacts)
        await self._producers.import_list(contacts, permission=planned.permission, tag="chaos")

    async def _opt_out(self, planned: PlannedOptOut) -> None:
        contacts = self._contacts[planned.account]
        contact = contacts.pick(planned.draw)
        fields = sorted(contact.addresses)
        field = fields[int(planned.draw * 1e6) % len(fields)]
        address = contact.addresses[field]
        if planned.entry_point == PYTHON:
            done = await self._producers.opt_out(planned.account, contact, field, planned.kind)
            if done.applied:
                self._producers.records.violations += await find_ineffective_opt_outs(
                    self._observer, planned.account, address_id=address, key=f"job {done.job_id}"
                )
            return
        if planned.new:
            recipient = Recipient(
                contacts.new_address(planned.draw), None, planned.kind, planned.again
            )
        else:
            text = await self._observer.value("address_of", address_id=address)
            recipient = Recipient(text, address, planned.kind, planned.again)
        await self._web[planned.account].recipients.entry_points[planned.entry_point](recipient)

    async def _read(self, planned: PlannedRead) -> None:
        read = self._web[planned.account].readers.reads[planned.what]
        await read(Random(planned.draw))

    async def _control(self, planned: PlannedControl) -> None:
        unfinished = await self._unfinished()
        if not unfinished:
            return
        job_id, account = unfinished[int(planned.draw * len(unfinished))]
        entry_point = self._controller(planned.entry_point, account)
        if planned.what == "pause":
            await self._controls.pause_for(entry_point, job_id, planned.pause, planned.then)
        else:
            await self._controls.cancel(entry_point, job_id)

    def _controller(self, entry_point: str, account: str) -> JobController:
        return self._producers if entry_point == PYTHON else self._web[account].producers
