"""What a request's handler works with."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import asyncpg
from fastapi import Depends, Request

from runtime.settings import Settings
from web.api_key_cache import ApiKeyCache
from web.hook_cache import HookCache
from web.peers import FailedAuthLimiter, get_peer
from web.problems import UNAVAILABLE, Problem
from web.queue_stats import QueueStatsCache
from web.rate_limit import RateLimiter, UploadLimiter
from web.request_notes import note_slot
from web.request_slots import RequestSlots

_LONG_WAIT_SECONDS = 1.0

RESERVED_CONNECTIONS = 3
"""So many connections of a web process are never taken by files and counts, and all but one of
them at most by long lists."""


REQUESTS_PER_CONNECTION = 2
"""So many requests of an account, or of a hook, are worked at a time for each connection of a web
process: enough to keep all of them busy, and few enough for others to come soon."""


@dataclass(slots=True)
class AppState:
    """One per web process. `shutting_down` is set as soon as the process is to end."""

    settings: Settings
    pool: asyncpg.Pool
    api_key_cache: ApiKeyCache = field(init=False)
    hook_cache: HookCache = field(init=False)
    failed_auth_limiter: FailedAuthLimiter = field(init=False)
    upload_limiter: UploadLimiter = field(init=False)
    rate_limiter: RateLimiter = field(init=False)
    queue_stats: QueueStatsCache = field(init=False)
    request_slots: RequestSlots = field(init=False)
    """Taken by each request of a key, for its account, and by each message of a hook."""
    long_request_slots: RequestSlots = field(init=False)
    """Taken by what holds a connection for seconds, so that some are left for everybody else; no
    account has more than half of them."""
    long_list_slots: RequestSlots = field(init=False)
    """Taken by long lists in bodies, which do not wait for files; an account has one of them."""
    event_streams: Counter[int] = field(default_factory=Counter)
    """How many each key has open."""
    waiting_requests: Counter[int] = field(default_factory=Counter)
    """How many requests of each key wait for a job."""
    shutting_down: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.api_key_cache = ApiKeyCache(self.pool)
        self.hook_cache = HookCache(self.pool)
        self.failed_auth_limiter = FailedAuthLimiter(self.settings.max_auth_failures_per_minute)
        self.upload_limiter = UploadLimiter(self.settings)
        self.rate_limiter = RateLimiter(self.settings.requests_per_second)
        self.queue_stats = QueueStatsCache(self.pool, self.settings)
        self.request_slots = RequestSlots(
            None, per_caller=REQUESTS_PER_CONNECTION * self.settings.web_pool_size
        )
        long_slots = max(1, self.settings.web_pool_size - RESERVED_CONNECTIONS)
        self.long_request_slots = RequestSlots(long_slots, per_caller=max(1, long_slots // 2))
        list_slots = max(
            1, min(RESERVED_CONNECTIONS - 1, self.settings.web_pool_size - long_slots - 1)
        )
        self.long_list_slots = RequestSlots(list_slots, per_caller=1)

    async def acquire_slot(self, request: Request, caller: object) -> None:
        """Wait for a turn, which the request has until it is answered or waits on purpose.

        Raises Problem where it only reads, and its caller has gone meanwhile.
        """
        began = time.monotonic()
        note_slot(await self.request_slots.acquire(caller))
        waited = time.monotonic() - began > _LONG_WAIT_SECONDS
        if waited and request.method == "GET" and await request.is_disconnected():
            raise Problem(UNAVAILABLE, "The caller has gone; nothing was read.")

    def get_peer(self, request: Request) -> str:
        """Return the network address that the request comes from."""
        return get_peer(request.scope, self.settings.proxy_count)

    async def wait_for_shutdown(self, seconds: float) -> bool:
        """Wait so long, or until the process is to end; whether it is."""
        # Not `wait_for`, which in Python 3.11 may swallow the cancelling of its task.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.shutting_down.wait()
        return self.shutting_down.is_set()


def get_state(request: Request) -> AppState:
    """Return what the request's handler works with."""
    state: AppState = request.app.state.sluice
    return state


def get_correlation_id(request: Request) -> str:
    """Return the caller's or the router's id of this request, or a new one."""
    found: str = request.state.correlation_id
    return found


# Coroutines, though they wait for nothing: what is none FastAPI has a thread run. Each takes time
# of each request; a route that is asked most often calls what stands above.
async def _provide_state(request: Request) -> AppState:
    return get_state(request)


async def _provide_correlation_id(request: Request) -> str:
    return get_correlation_id(request)


State = Annotated[AppState, Depends(_provide_state)]
"""A handler's parameter: `async def handler(state: State)`."""

CorrelationId = Annotated[str, Depends(_provide_correlation_id)]
