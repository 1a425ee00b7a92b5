"""Recipients who use their opt-out link, many a second, and what becomes of them."""

import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiosql
import asyncpg

from bench.arrivals import Answered, open_loop
from producers.immediate_opt_out import opt_out_immediately
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection

sql: Any = aiosql.from_path(
    Path(__file__).with_name("load.sql"), "asyncpg", mandatory_parameters=False
)

_LOOK_AT_EVERY = 10
"""Of so many opt-outs one is looked at from another connection as soon as it is acknowledged."""


class OptOut(NamedTuple):
    """One that was acknowledged; `seen` is None where nobody looked."""

    job_id: int
    contact_id: int
    time: Answered
    applied: bool
    seen: bool | None


class Recipients(NamedTuple):
    """Contacts of one account who opt out, each once; `doors` and `eyes` are pools of their own."""

    doors: asyncpg.Pool
    eyes: asyncpg.Pool
    settings: Settings
    account: str
    account_id: int
    contacts: Sequence[int]

    async def opt_out(self, *, rate: float, seconds: float) -> dict[str, Any]:
        """Let them opt out at this rate for so long, and give the figures."""
        made, took = await open_loop(self._send, rate=rate, seconds=seconds)
        return await self._figures(made, rate, took)

    async def _send(self, number: int, stopwatch: Callable[[], Answered]) -> OptOut:
        contact = self.contacts[number]
        request = JobRequest(
            account=self.account,
            action="opt_out",
            selection=Selection(contacts=(contact,)),
            params={"kind": "manual"},
            requested_by="a recipient",
            idempotency_key=f"unsubscribe {contact}",
        )
        answer = await opt_out_immediately(self.doors, self.settings, request)
        time = stopwatch()
        seen = None
        if number % _LOOK_AT_EVERY == 0:
            async with self.eyes.acquire() as connection:
                seen = await sql.applied_now(
                    connection,
                    job_id=answer.job_id,
                    account_id=self.account_id,
                    contact_id=contact,
                )
        return OptOut(answer.job_id, contact, time, answer.applied, seen)

    async def _figures(self, made: Sequence[OptOut], rate: float, took: float) -> dict[str, Any]:
        async with self.eyes.acquire() as connection:
            lost = await sql.lost(
                connection,
                account_id=self.account_id,
                job_ids=[one.job_id for one in made],
                contact_ids=[one.contact_id for one in made],
            )
        waits = sorted(one.time.answered * 1000 for one in made)
        return {
            "opt_outs": len(made),
            "rate_wanted": rate,
            "rate_achieved": round(len(made) / took, 1),
            "ms_median": round(statistics.median(waits), 1),
            "ms_p99": round(waits[int(len(waits) * 0.99)], 1),
            "ms_worst": round(waits[-1], 1),
            "ms_sent_late_worst": round(max(one.time.sent for one in made) * 1000, 1),
            "deferred": sum(not one.applied for one in made),
            "lost": lost,
            "looked_at": sum(one.seen is not None for one in made),
            "acknowledged_too_early": sum(one.seen is False for one in made if one.applied),
        }


def draw_recipients(first: int, contacts: int, most: int, *, seed: int) -> list[int]:
    """Distinct contacts from all over the list, in random order; the same seed gives the same."""
    return random.Random(seed).sample(range(first, first + contacts), most)
