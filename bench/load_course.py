"""The course of the measurement under load, one phase after the other."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import asyncpg

from bench import lists
from bench.fairness import alike, beside_jobs, small_job
from bench.measuring import Costs, Stand
from bench.unsubscribing import Recipients, draw_recipients, sql
from producers.accounts import create_account

ACCOUNTS = 10
"""So many accounts have a job at the same time."""

_SMALL = 100
_WARM_SECONDS = 1.0
"""How long opt-outs arrive unmeasured at first, while connections are made and get to know their
statements: a service does that once in its life."""

_LARGE = "large"


class LoadCourse(NamedTuple):
    """What to measure, and with how much; `doors` are the connections of those who opt out."""

    stand: Stand
    doors: asyncpg.Pool
    say: Callable[[str], None]
    contacts: int
    rate: float
    seconds: float
    seed: int

    async def run(self) -> dict[str, Any]:
        """All figures."""
        pool = self.stand.pool
        account_id = await create_account(pool, _LARGE)
        self.say(f"making a list of {self.contacts:,} contacts")
        await lists.fill(pool, account_id, self.contacts)
        async with pool.acquire() as connection:
            first = await sql.first_contact(connection, account_id=account_id)
        drawn = iter(
            draw_recipients(
                first,
                self.contacts,
                contacts_needed(rate=self.rate, seconds=self.seconds),
                seed=self.seed,
            )
        )

        def some(count: int) -> list[int]:
            return [next(drawn) for _ in range(count)]

        def recipients(seconds: float) -> Recipients:
            chosen = some(round(self.rate * seconds))
            return Recipients(self.doors, pool, self.stand.settings, _LARGE, account_id, chosen)

        await recipients(_WARM_SECONDS).opt_out(rate=self.rate, seconds=_WARM_SECONDS)
        return {
            "contacts": self.contacts,
            "idle": await self._idle(recipients(self.seconds)),
            "beside": await self._beside(recipients(self.seconds)),
            "small": await self._small(some(_SMALL), some(_SMALL)),
            "alike": await self._alike(),
        }

    async def _idle(self, recipients: Recipients) -> dict[str, Any]:
        await lists.settle(self.stand.pool)
        self.say("opt-outs while nothing else is done")
        costs = Costs(self.stand)
        async with costs.measured():
            figures = await recipients.opt_out(rate=self.rate, seconds=self.seconds)
        return figures | _others(costs)

    async def _beside(self, recipients: Recipients) -> dict[str, Any]:
        await lists.settle(self.stand.pool)
        self.say("opt-outs while jobs over the list run")
        costs = Costs(self.stand)
        async with costs.measured():
            figures, jobs = await beside_jobs(
                self.stand, _LARGE, recipients.opt_out(rate=self.rate, seconds=self.seconds)
            )
        return figures | _others(costs) | {"jobs_begun": jobs}

    async def _small(self, some: Sequence[int], others: Sequence[int]) -> dict[str, Any]:
        self.say("small jobs while jobs over the list run")

        async def both() -> tuple[dict[str, Any], dict[str, Any]]:
            return await asyncio.gather(
                small_job(self.stand, _LARGE, "opt_in", some),
                small_job(self.stand, _LARGE, "opt_out", others),
            )

        (opt_in, opt_out), _ = await beside_jobs(self.stand, _LARGE, both())
        return {"opt_in": opt_in, "opt_out": opt_out}

    async def _alike(self) -> dict[str, Any]:
        self.say(f"a large job in each of {ACCOUNTS} accounts")
        names = [f"{_LARGE}-{n}" for n in range(ACCOUNTS)]
        each = max(1, self.contacts // ACCOUNTS)
        for name in names:
            account_id = await create_account(self.stand.pool, name)
            await lists.fill(self.stand.pool, account_id, each)
        await lists.settle(self.stand.pool)
        return {"contacts": each} | await alike(self.stand, names)


def contacts_needed(*, rate: float, seconds: float) -> int:
    """How many contacts take part one by one, so that none of them has to do so twice."""
    return round(rate * _WARM_SECONDS) + 2 * round(rate * seconds) + 2 * _SMALL


def _others(costs: Costs) -> dict[str, float]:
    return {"others_percent": costs.figures(addresses=1)["others_percent"]}
