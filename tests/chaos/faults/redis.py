"""Faults of Redis: data lost, server down, replies lost, messages repeated."""

import asyncio
import uuid
from typing import Any

import redis.asyncio
from dramatiq import Message
from redis.exceptions import RedisError

from tests.chaos.fault_plan import Fault
from tests.chaos.faults import FaultContext
from workers.queue_names import BULK, OPT_OUTS, STARTS

_POLL_SECONDS = 0.05
_QUEUES = (OPT_OUTS, STARTS, BULK)


async def wipe(context: FaultContext, fault: Fault) -> str:
    """Remove all data by FLUSHALL: every message and every worker's list of fetched messages."""
    del fault
    async with redis.asyncio.Redis.from_url(context.servers.redis_url) as client:
        await client.flushall()
    return "wiped"


async def kill(context: FaultContext, fault: Fault) -> str:
    """Kill Valkey by SIGKILL, and start it empty some seconds later."""
    await asyncio.to_thread(context.servers.kill_redis)
    try:
        await asyncio.sleep(fault.duration)
    finally:
        await asyncio.to_thread(context.servers.start_redis)
    return f"down for {fault.duration:.1f} s"


async def stall(context: FaultContext, fault: Fault) -> str:
    """Drop replies: fetched messages and the results of enqueuing are lost."""
    context.proxy.stall()
    try:
        await asyncio.sleep(fault.duration)
    finally:
        context.proxy.unstall()
    return f"dropped replies for {fault.duration:.0f} s"


async def triple_messages(context: FaultContext, fault: Fault) -> str:
    """Enqueue each message that is seen in Redis twice more, under new ids."""
    seen: set[bytes] = set()
    ends = asyncio.get_running_loop().time() + fault.duration
    added = 0
    async with redis.asyncio.Redis.from_url(context.servers.redis_url) as client:
        while asyncio.get_running_loop().time() < ends:
            for queue in _QUEUES:
                try:
                    added += await _triple(client, f"{context.namespace}:{queue}", seen)
                except (RedisError, OSError):
                    break  # Another fault has stopped Redis.
            await asyncio.sleep(_POLL_SECONDS)
    return f"added {added} messages"


async def _triple(client: redis.asyncio.Redis, queue: str, seen: set[bytes]) -> int:
    """Enqueue copies as dramatiq does: the data in a hash, the id in a list."""
    found: dict[Any, Any] = await client.hgetall(f"{queue}.msgs")
    added = 0
    for message_id, data in found.items():
        if message_id in seen:
            continue
        seen.add(message_id)
        for _ in range(2):
            copy_id = str(uuid.uuid4())
            copy = Message.decode(data).copy(options={"redis_message_id": copy_id})
            seen.add(copy_id.encode())
            async with client.pipeline(transaction=True) as pipe:
                pipe.hset(f"{queue}.msgs", copy_id, copy.encode())
                pipe.rpush(queue, copy_id)
                await pipe.execute()
            added += 1
    return added
