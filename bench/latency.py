"""How long recipients wait who opt out one by one, and how long rows stay locked meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from bench.arrivals import Answered, open_loop
from bench.contenders import Contender, Sluice, no_show, warm_up
from bench.locks import LOOKING_ON, watched_locks
from bench.rounds import BOTH
from bench.templates import LIST, WARM, Copy, checkpoint, warm_contacts
from bench.unsubscribing import draw_recipients, sql
from bench.waits import summed_up
from db.pool import open_pool
from producers.immediate_opt_out import opt_out_immediately
from schemas.errors import SluiceError
from schemas.requests import JobRequest, Selection

RATE = 50.0
"""Opt-outs a second."""

CONNECTIONS = 32
"""Of the service that takes the opt-outs."""

LONGEST_SECONDS = 20.0
"""No opt-outs arrive for longer than this, also where the job lasts longer."""

_SEED = 11


class OptOutLost(SluiceError):
    """An opt-out that was acknowledged does not hold."""


class Recipients(NamedTuple):
    """Contacts of the copy's list who opt out, each once; `doors` are the service's connections."""

    copy: Copy
    doors: asyncpg.Pool
    drawn: list[int]

    async def opt_out(self, *, seconds: float, over: Callable[[], bool]) -> dict[str, Any]:
        """Let them opt out for so long, or until it is over; gives the figures when all have been
        answered.
        """
        # Each opts out once, and a small list has few.
        seconds = min(seconds, LONGEST_SECONDS, len(self.drawn) / RATE)
        made, _ = await open_loop(self._next, rate=RATE, seconds=seconds, over=over)
        contacts = [contact for contact, _, applied in made if applied]
        async with self.copy.pool.acquire() as connection:
            lost = await sql.still_marketable(
                connection, account_id=self.copy.template.account_id, contact_ids=contacts
            )
        return waits([time for _, time, _ in made]) | {
            "deferred": len(made) - len(contacts),
            "lost": lost,
        }

    async def warm_up(self) -> None:
        """Have every connection made, and every statement prepared on it, by others' opt-outs."""
        async with self.doors.acquire() as connection:
            first = await sql.first_contact(
                connection, account_id=self.copy.template.warm_account_id
            )
        most = warm_contacts(self.copy.template.contacts)
        for _ in range(2):
            await asyncio.gather(
                *(self._opt_out(WARM, first + number % most) for number in range(CONNECTIONS))
            )

    async def _next(
        self, _number: int, stopwatch: Callable[[], Answered]
    ) -> tuple[int, Answered, bool]:
        contact = self.drawn.pop()
        applied = await self._opt_out(LIST, contact)
        return contact, stopwatch(), applied

    async def _opt_out(self, account: str, contact: int) -> bool:
        request = JobRequest(
            account=account,
            action="opt_out",
            selection=Selection(contacts=(contact,)),
            params={"kind": "manual"},
            requested_by="a recipient",
        )
        return (await opt_out_immediately(self.doors, self.copy.settings, request)).applied


@asynccontextmanager
async def recipients_of(copy: Copy) -> AsyncIterator[Recipients]:
    """Recipients all over the copy's list, with connections that have been used before."""
    template = copy.template
    most = min(template.contacts, round(RATE * LONGEST_SECONDS) * len(BOTH))
    drawn = draw_recipients(template.first, template.contacts, most, seed=_SEED)
    async with await open_pool(copy.url, size=CONNECTIONS, application=LOOKING_ON) as doors:
        recipients = Recipients(copy, doors, drawn)
        await recipients.warm_up()
        yield recipients


async def beside(copy: Copy, contender: Contender, folder: Path) -> dict[str, Any]:
    """Recipients' waits, and the longest locks, while the contender does each of the jobs.

    Opt-outs arrive until the job has ended; that they are answered after it counts like any wait.
    Raises OptOutLost where Sluice's own jobs made one undone.
    """
    figures: dict[str, Any] = {"contender": contender.key, "contacts": copy.template.contacts}
    async with contender.on(copy, folder) as running, recipients_of(copy) as recipients:
        await warm_up(running, copy)
        for name, work_on in BOTH:
            await checkpoint(copy.pool)
            async with watched_locks(copy) as locks:
                job = asyncio.create_task(running.job(work_on(copy), no_show))
                try:
                    waited = await recipients.opt_out(seconds=LONGEST_SECONDS, over=job.done)
                    done = await job
                finally:
                    job.cancel()
            if isinstance(contender, Sluice):
                require_kept(waited)
            figures[name] = {
                "seconds": round(done.seconds, 2),
                "opt_outs": waited,
                "locks": locks.figures(),
            } | done.more
    return figures


def require_kept(opt_outs: dict[str, Any]) -> None:
    """Raise OptOutLost unless all that were acknowledged still hold."""
    if opt_outs["lost"]:
        raise OptOutLost(
            f"{opt_outs['lost']} recipients have an address that can be mailed although their"
            " opt-out was acknowledged. No figures were kept. This must never happen: run"
            " `make chaos`, and look for the job that changed it."
        )


def waits(times: Sequence[Answered]) -> dict[str, Any]:
    """Milliseconds from arrival to answer; all of them, and what they come to."""
    late = max((time.sent for time in times), default=0.0)
    return summed_up([round(time.answered * 1000, 1) for time in times]) | {
        "ms_sent_late_worst": round(late * 1000, 1)
    }
