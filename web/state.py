"""The state of a web process, and how request handlers get it."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from typing import Annotated

import asyncpg
from fastapi import Depends, Request

from db import hooks
from producers.hooks import DUMMY_HOOK
from runtime.settings import Settings
from web.api_key_cache import ApiKeyCache
from web.cached_list import CachedList
from web.peers import FailedAuthLimiter, get_peer
from web.problems import UNAVAILABLE, Problem
from web.queue_stats import QueueStatsCache
from web.rate_limit import RateLimiter, UploadLimiter
from web.request_notes import get_notes
from web.request_slots import RequestSlots
from web.server_monitor import ServerMonitor

_LONG_WAIT_SECONDS = 1.0

RESERVED_CONNECTIONS = 3
"""How many connections of the pool files and counts never take. Long lists in bodies take at most
all but one of these."""

REQUESTS_PER_CONNECTION = 2
"""How many requests of one account, or of one hook, are handled at a time per connection of the
pool: enough to keep all of them busy, and few enough not to delay others."""


class AppState:
    """What all requests of a web process share."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        size = settings.web_pool_size
        long_slots = max(1, size - RESERVED_CONNECTIONS)
        list_slots = max(1, min(RESERVED_CONNECTIONS - 1, size - long_slots - 1))
        self.settings = settings
        self.pool = pool
        self.api_key_cache = ApiKeyCache(pool)
        self.active_hooks = CachedList(pool, hooks.list_active_hooks, DUMMY_HOOK)
        self.failed_auth_limiter = FailedAuthLimiter(settings.max_auth_failures_per_minute)
        self.upload_limiter = UploadLimiter(settings)
        self.rate_limiter = RateLimiter(settings.requests_per_second)
        self.queue_stats = QueueStatsCache(pool, settings)
        self.server_monitor = ServerMonitor(settings)
        self.request_slots = RequestSlots(None, per_caller=REQUESTS_PER_CONNECTION * size)
        """Held by each request of a key, for its account, and by each message of a hook."""
        self.long_request_slots = RequestSlots(long_slots, per_caller=max(1, long_slots // 2))
        """Held by what uses a connection for seconds. No account has more than half of them."""
        self.long_list_slots = RequestSlots(list_slots, per_caller=1)
        """Held by long lists in bodies, one per account, so that they do not wait for files."""
        self.event_streams: Counter[int] = Counter()
        """How many event streams each key has open."""
        self.waiting_requests: Counter[int] = Counter()
        """How many requests of each key wait for a job."""
        self.shutting_down = asyncio.Event()
        """Set as soon as the process is told to end."""

    async def acquire_slot(self, request: Request, caller: object) -> None:
        """Wait for a slot, which the request holds until it is answered or waits on purpose.

        Raise Problem if it only reads, and its client has left meanwhile.
        """
        began = time.monotonic()
        get_notes().release = await self.request_slots.acquire(caller)
        waited = time.monotonic() - began > _LONG_WAIT_SECONDS
        if waited and request.method == "GET" and await request.is_disconnected():
            raise Problem(UNAVAILABLE, "The client has left. Nothing was read.")

    def get_peer(self, request: Request) -> str:
        """Return the network address that the request comes from."""
        return get_peer(request.scope, self.settings.proxy_count)

    async def wait_for_shutdown(self, seconds: float) -> bool:
        """Wait until the process is told to end, or for some seconds; return whether it is."""
        # Not `wait_for`, which in Python 3.11 may swallow the cancellation of its task.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.shutting_down.wait()
        return self.shutting_down.is_set()


def get_state(request: Request) -> AppState:
    """Return the state of the process."""
    state: AppState = request.app.state.sluice
    return state


async def _provide_state(request: Request) -> AppState:
    """Wait for nothing. FastAPI runs dependencies that are no coroutines in a thread."""
    return get_state(request)


State = Annotated[AppState, Depends(_provide_state)]
"""A handler's parameter: `async def handler(state: State)`."""
