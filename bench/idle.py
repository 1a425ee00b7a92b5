"""What Sluice does when there is next to nothing to do."""

import asyncio
from pathlib import Path
from typing import Any

import redis.asyncio

from bench.contenders import Contender, warm_up
from bench.latency import recipients_of, require_kept
from bench.measuring import Stand, first_contacts, measure_small_jobs
from bench.templates import LIST, Copy


async def at_rest(
    copy: Copy, fleet: Contender, folder: Path, *, seconds: float, small_jobs: int
) -> dict[str, Any]:
    """Single opt-outs, commands at Redis, and jobs of one contact, one after the other."""
    async with fleet.on(copy, folder) as running:
        await warm_up(running, copy)
        async with recipients_of(copy) as recipients:
            opt_outs = await recipients.opt_out(seconds=seconds, over=lambda: False)
            require_kept(opt_outs)
        stand = Stand(copy.pool, copy.settings, running.workers, embedded=True)
        contacts = await first_contacts(copy.pool, copy.template.account_id, small_jobs)
        return {
            "contender": fleet.key,
            "opt_outs": opt_outs,
            "redis": await redis_commands(copy.settings.redis_url or "", seconds),
            "one_contact": await measure_small_jobs(stand, LIST, contacts),
        }


async def redis_commands(url: str, seconds: float) -> dict[str, Any]:
    """How many commands the server was given meanwhile, without those that ask for it."""
    async with redis.asyncio.Redis.from_url(url, single_connection_client=True) as client:
        before = await _commands(client)
        await asyncio.sleep(seconds)
        # Between the two answers, one of the questions was counted.
        commands = await _commands(client) - before - 1
    return {
        "seconds": seconds,
        "commands": commands,
        "commands_per_second": round(commands / seconds, 1),
    }


async def _commands(client: "redis.asyncio.Redis") -> int:
    stats: dict[str, Any] = await client.info("stats")
    return int(stats["total_commands_processed"])
