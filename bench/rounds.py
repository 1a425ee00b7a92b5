"""Rounds in which each contender does both jobs on a fresh copy of the same list."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from bench.contenders import Contender, Running, Work, opt_in, opt_out, warm_up
from bench.effects import Effect, effect_of, require_same, sql
from bench.measuring import Show
from bench.others import Others
from bench.progress import Steps
from bench.templates import Copy, Template, Templates, checkpoint
from bench.watching import Watch

Jobs = tuple[tuple[str, Callable[[Copy], Work]], ...]
"""What is done on each copy, one after the other: names, and what makes the work."""

OPT_IN: Jobs = (("opt_in", opt_in),)
BOTH: Jobs = (*OPT_IN, ("opt_out", opt_out))

Run = dict[str, Any]
"""One contender in one round: `contender`, `round`, `workers`, and the figures of each job."""


class Rounds(NamedTuple):
    """Who takes part, on which list, how often."""

    templates: Templates
    steps: Steps
    folder: Path
    contenders: Sequence[Contender]
    contacts: int
    rounds: int
    jobs: Jobs = BOTH

    async def run(self) -> list[Run]:
        """Everyone's figures. Raises EffectsDiffer where one did other work than the first.

        Each round begins with another contender.
        """
        template = await self.templates.of(self.contacts)
        runs: list[Run] = []
        first: Effect | None = None
        for number in range(self.rounds):
            for contender in rotated(self.contenders, number):
                label = f"{self.contacts:,} contacts, round {number + 1}: {contender.title}"
                run, effect = await self._one(template, contender, label)
                first = first or effect
                require_same(first, effect)
                runs.append({"contender": contender.key, "round": number + 1} | run)
        return runs

    async def _one(
        self, template: Template, contender: Contender, label: str
    ) -> tuple[Run, Effect]:
        run: Run = {}
        jobs: list[tuple[str, int]] = []
        with self.steps.step(label) as show:
            async with self.templates.copy(template) as copy:
                async with contender.on(copy, self.folder) as running:
                    await warm_up(running, copy)
                    with Watch(running.workers) as watch:
                        for name, work_on in self.jobs:
                            run[name] = await measured(copy, running, work_on(copy), show)
                            jobs.append((name, run[name]["job"]))
                    run["workers"] = [peak.as_mb() for peak in watch.peaks.values()]
                async with copy.pool.acquire() as connection:
                    effect = await effect_of(connection, contender.title, template.account_id, jobs)
        return run, effect


async def measured(copy: Copy, running: Running, work: Work, show: Show) -> dict[str, Any]:
    """The job, right after a checkpoint: seconds, addresses per second, and bytes per address.

    An address is a selected (contact, field) pair; those that an opt-out reaches besides are not
    counted.
    """
    await checkpoint(copy.pool)
    before = await _sizes(copy.pool)
    others = await Others.before(copy)
    done = await running.job(work, show)
    others_percent = others.percent()
    after = await _sizes(copy.pool)
    addresses = copy.template.contacts * len(work.fields)
    return {
        "job": done.job_id,
        "seconds": round(done.seconds, 3),
        "addresses": addresses,
        "addresses_per_second": round(addresses / done.seconds),
        "others_percent": others_percent,
        "bytes_per_address": {
            name: round((after[name] - before[name]) / addresses, 1) for name in after
        },
    } | done.more


async def _sizes(pool: asyncpg.Pool) -> dict[str, int]:
    async with pool.acquire() as connection:
        return dict(await sql.sizes(connection))


def rotated(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """The contenders in the order of this round: each round begins with the next one."""
    shift = number % len(contenders)
    return [*contenders[shift:], *contenders[:shift]]
