"""Rounds in which each contender does the jobs on a fresh copy of the same list."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import asyncpg
import psutil

from bench.contenders import Contender, JobRun, Runner, warm_up, work_on
from bench.effects import Effect, read_effect, require_same, sql
from bench.samples import Samples
from bench.session import Environment
from bench.templates import Copy, checkpoint

T = TypeVar("T")


async def run_rounds(
    environment: Environment,
    list_name: str,
    contenders: Sequence[Contender],
    jobs: Sequence[str],
    rounds: int,
) -> None:
    """Run all rounds. Raise EffectsDiffer if a contender did other work than the first."""
    first: Effect | None = None
    for at in range(rounds):
        for contender in rotated(contenders, at):
            environment.log(f"{list_name} list, round {at + 1}: {contender.title}")
            effect = await _run_once(environment, list_name, contender, jobs)
            first = first or effect
            require_same(first, effect)


async def _run_once(
    environment: Environment, list_name: str, contender: Contender, jobs: Sequence[str]
) -> Effect:
    samples, ids = environment.samples, []
    async with environment.copy(list_name) as copy:
        async with contender.start(copy, environment.folder) as running:
            await warm_up(running, copy)
            for job in jobs:
                subject = f"{list_name}/{job}/{contender.key}"
                done = await _measure(copy, running, job, samples, subject)
                ids.append((job, done.job_id))
            if running.workers:
                largest = max(peak_memory_mb(pid) for pid in running.workers)
                samples.add(f"memory of a process, MB/{list_name}/{contender.key}", largest)
        async with copy.pool.acquire() as connection:
            account_id = copy.template.account_id
            return await read_effect(connection, contender.title, account_id, ids)


async def _measure(copy: Copy, running: Runner, job: str, samples: Samples, subject: str) -> JobRun:
    """Measure a job right after a checkpoint: its rate, and the bytes that it writes.

    Both are per selected (contact, field) pair; propagated changes do not count.
    """
    await checkpoint(copy.pool)
    before = await _sizes(copy.pool)
    work = work_on(copy, job)
    done = await running.run(work)
    after = await _sizes(copy.pool)
    addresses = copy.template.contacts * len(work.fields)
    samples.add(f"addresses a second/{subject}", round(addresses / done.seconds))
    for name, size in after.items():
        grown = round((size - before[name]) / addresses, 1)
        samples.add(f"bytes per address: {name.replace('_', ', ')}/{subject}", grown)
    return done


async def _sizes(pool: asyncpg.Pool) -> dict[str, int]:
    async with pool.acquire() as connection:
        return dict(await sql.sizes(connection))


def peak_memory_mb(pid: int) -> float:
    """Return the peak resident set of the process, or the present one without /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return round(float(psutil.Process(pid).memory_info().rss) / 1e6, 1)


def rotated(items: Sequence[T], number: int) -> list[T]:
    """Return the items in the order of this round: each round begins with the next one."""
    shift = number % max(1, len(items))
    return [*items[shift:], *items[:shift]]
