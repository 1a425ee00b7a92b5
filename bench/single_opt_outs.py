"""The waits of recipients who opt out one by one, at rest and during a job."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

from bench.arrivals import open_loop
from bench.contenders import JOBS, SLUICE, Contender, warm_up, work_on
from bench.effects import sql
from bench.jobs import job_request, run_job
from bench.locks import OBSERVER, watch_locks
from bench.session import Environment
from bench.templates import LIST, WARM, Copy, checkpoint
from db.pool import open_pool
from producers.immediate_opt_out import opt_out_immediately
from schemas.errors import SluiceError
from schemas.requests import JobRequest, Selection

RATE = 50.0
"""Opt-outs a second."""

CONNECTIONS = 32
"""The pool size of the service that accepts the opt-outs."""

MAX_SECONDS = 20.0
"""Opt-outs arrive for at most this time, even if the job lasts longer."""

_SEED = 11
_PAUSE_SECONDS = 0.2


class OptOutLost(SluiceError):
    """An acknowledged opt-out is not in force."""


class Recipients(NamedTuple):
    """Contacts of the copy's list, in random order, each of whom opts out once."""

    copy: Copy
    service: asyncpg.Pool
    contacts: list[int]

    async def opt_out(
        self,
        seconds: float = MAX_SECONDS,
        is_over: Callable[[], bool] = lambda: False,
        *,
        is_checked: bool = True,
    ) -> list[float]:
        """Opt them out for this time, or until it is over. Return the wait of each, in ms.

        If `is_checked`, raise OptOutLost for a marketable address whose opt-out was acknowledged.
        """
        # A small list has too few recipients.
        seconds = min(seconds, len(self.contacts) / RATE)
        answers = await open_loop(self._next, rate=RATE, seconds=seconds, is_over=is_over)
        applied = [contact for (contact, was_applied), _ in answers if was_applied]
        async with self.copy.pool.acquire() as connection:
            lost = await sql.still_marketable(
                connection, account_id=self.copy.template.account_id, contact_ids=applied
            )
        if lost and is_checked:
            raise OptOutLost(
                f"{lost} recipients have a marketable address although their opt-out was"
                " acknowledged. No figures were kept. Run `make chaos` to find the job that"
                " changed it."
            )
        return [wait for _, wait in answers]

    async def warm_up(self) -> None:
        """Open every connection, and prepare every statement on it, with opt-outs of other
        contacts.
        """
        template = self.copy.template
        for _ in range(2):
            numbers = (n % template.warm_contacts for n in range(CONNECTIONS))
            await asyncio.gather(*(self._opt_out(WARM, template.warm_first + n) for n in numbers))

    async def _next(self, _number: int) -> tuple[int, bool]:
        contact = self.contacts.pop()
        return contact, await self._opt_out(LIST, contact)

    async def _opt_out(self, account: str, contact: int) -> bool:
        request = JobRequest(
            account=account,
            action="opt_out",
            selection=Selection(contacts=(contact,)),
            params={"kind": "manual"},
            requested_by="a recipient",
        )
        return (await opt_out_immediately(self.service, self.copy.settings, request)).applied


@asynccontextmanager
async def recipients_of(copy: Copy) -> AsyncIterator[Recipients]:
    """Draw recipients from the copy's list, and open the connections that serve them."""
    first, contacts = copy.template.first, copy.template.contacts
    count = min(contacts, round(RATE * MAX_SECONDS) * len(JOBS))
    drawn = random.Random(_SEED).sample(range(first, first + contacts), count)
    async with await open_pool(copy.url, size=CONNECTIONS, application=OBSERVER) as service:
        recipients = Recipients(copy, service, drawn)
        await recipients.warm_up()
        yield recipients


async def measure_during_jobs(
    environment: Environment, list_name: str, contender: Contender
) -> None:
    """Measure recipients' waits, and the longest locks, while the contender does each job.

    Opt-outs arrive until the job has ended. Waits that end later count in full.
    """
    key, samples = contender.key, environment.samples
    longest_wait = longest_lock = 0.0
    environment.log(f"single opt-outs during jobs of {contender.title}")
    async with (
        environment.copy(list_name) as copy,
        contender.start(copy, environment.folder) as running,
        recipients_of(copy) as recipients,
    ):
        await warm_up(running, copy)
        for action in JOBS:
            await checkpoint(copy.pool)
            async with watch_locks(copy) as locks:
                job = asyncio.create_task(running.run(work_on(copy, action)))
                try:
                    waits = await recipients.opt_out(
                        is_over=job.done, is_checked=contender is SLUICE
                    )
                    done = await job
                finally:
                    job.cancel()
            p99 = samples.add_waits(f"{action}/{key}", waits)
            samples.add(f"single opt-outs, ms: longest row lock/{action}/{key}", *locks)
            samples.add(
                f"job while single opt-outs run: seconds/{action}/{key}", round(done.seconds, 2)
            )
            longest_wait, longest_lock = max(longest_wait, p99), max(longest_lock, *locks)
    samples.add(f"longest of both jobs, ms: row lock/{key}", longest_lock)
    if longest_wait:
        samples.add(f"longest of both jobs, ms: wait, 99th percentile/{key}", longest_wait)


async def measure_idle(environment: Environment) -> None:
    """Measure single opt-outs, and then jobs of one contact, with no other work."""
    sizes, samples = environment.sizes, environment.samples
    environment.log("at rest: single opt-outs, small jobs")
    async with (
        environment.copy("large") as copy,
        SLUICE.start(copy, environment.folder) as running,
    ):
        await warm_up(running, copy)
        async with recipients_of(copy) as recipients:
            samples.add_waits("at rest", await recipients.opt_out(sizes.seconds))
        first, count = copy.template.first, min(sizes.small_jobs, copy.template.contacts)
        for contact in range(first, first + count):
            # Wait until the workers are listening for messages again.
            await asyncio.sleep(_PAUSE_SECONDS)
            began = time.perf_counter()
            await run_job(copy.pool, copy.settings, job_request(LIST, "opt_out", [1], contact))
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            samples.add("job of one contact, ms/at rest", milliseconds)
