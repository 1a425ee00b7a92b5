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
from web.api_key_cache import KnownKeys
from web.hook_cache import KnownHooks
from web.peers import WrongTries, peer_of
from web.problems import UNAVAILABLE, Problem
from web.queue_stats import QueueLoads
from web.rate_limit import RateLimit, UploadLimit
from web.request_notes import note_turn
from web.request_slots import Turns

_LONG_WAIT_SECONDS = 1.0

KEPT_FREE = 3
"""So many connections of a web process are never taken by files and counts, and all but one of
them at most by long lists."""


TURNS_PER_CONNECTION = 2
"""So many requests of an account, or of a hook, are worked at a time for each connection of a web
process: enough to keep all of them busy, and few enough for others to come soon."""


@dataclass(slots=True)
class Here:
    """One per web process. `closing` is set as soon as the process is to end."""

    settings: Settings
    pool: asyncpg.Pool
    known_keys: KnownKeys = field(init=False)
    known_hooks: KnownHooks = field(init=False)
    wrong_tries: WrongTries = field(init=False)
    uploads: UploadLimit = field(init=False)
    rate_limit: RateLimit = field(init=False)
    queue_loads: QueueLoads = field(init=False)
    request_turns: Turns = field(init=False)
    """Taken by each request of a key, for its account, and by each message of a hook."""
    long_turns: Turns = field(init=False)
    """Taken by what holds a connection for seconds, so that some are left for everybody else; no
    account has more than half of them."""
    list_turns: Turns = field(init=False)
    """Taken by long lists in bodies, which do not wait for files; an account has one of them."""
    event_streams: Counter[int] = field(default_factory=Counter)
    """How many each key has open."""
    waiting: Counter[int] = field(default_factory=Counter)
    """How many requests of each key wait for a job."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.known_keys = KnownKeys(self.pool)
        self.known_hooks = KnownHooks(self.pool)
        self.wrong_tries = WrongTries(self.settings.max_wrong_per_minute)
        self.uploads = UploadLimit(self.settings)
        self.rate_limit = RateLimit(self.settings.requests_per_second)
        self.queue_loads = QueueLoads(self.pool, self.settings)
        self.request_turns = Turns(None, of_each=TURNS_PER_CONNECTION * self.settings.web_pool_size)
        turns = max(1, self.settings.web_pool_size - KEPT_FREE)
        self.long_turns = Turns(turns, of_each=max(1, turns // 2))
        lists = max(1, min(KEPT_FREE - 1, self.settings.web_pool_size - turns - 1))
        self.list_turns = Turns(lists, of_each=1)

    async def take_turn(self, request: Request, whose: object) -> None:
        """Wait for a turn, which the request has until it is answered or waits on purpose.

        Raises Problem where it only reads, and its caller has gone meanwhile.
        """
        began = time.monotonic()
        note_turn(await self.request_turns.take(whose))
        waited = time.monotonic() - began > _LONG_WAIT_SECONDS
        if waited and request.method == "GET" and await request.is_disconnected():
            raise Problem(UNAVAILABLE, "The caller has gone; nothing was read.")

    def peer_of(self, request: Request) -> str:
        """Return the network address that the request comes from."""
        return peer_of(request.scope, self.settings.proxies)

    async def closes_within(self, seconds: float) -> bool:
        """Wait so long, or until the process is to end; whether it is."""
        # Not `wait_for`, which in Python 3.11 may swallow the cancelling of its task.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.closing.wait()
        return self.closing.is_set()


def here_of(request: Request) -> Here:
    """What the request's handler works with."""
    here: Here = request.app.state.here
    return here


def correlation_id_of(request: Request) -> str:
    """What the caller, or the router, calls this request; made up where nobody does."""
    found: str = request.state.correlation_id
    return found


# Coroutines, though they wait for nothing: what is none FastAPI has a thread run. Each takes time
# of each request; a route that is asked most often calls what stands above.
async def _here(request: Request) -> Here:
    return here_of(request)


async def _correlation_id(request: Request) -> str:
    return correlation_id_of(request)


HereDep = Annotated[Here, Depends(_here)]
"""A handler's parameter: `async def handler(here: HereDep)`."""

CorrelationId = Annotated[str, Depends(_correlation_id)]
