"""A limit on the memory for large bodies, and which of them are evicted to make room."""

import asyncio
import math
import time
from collections import Counter
from contextvars import Context
from dataclasses import dataclass

from runtime import events, logs
from web.problems import CLOSE_AND_RETRY, UNAVAILABLE, Problem

log = logs.get_logger()

LARGE_BODY_BYTES = 64 * 1024
"""A body counts as large as soon as more than this has come."""

MAX_LARGE_BODIES = 16
"""How many bodies of the maximum size have room until they are answered, or more smaller ones."""

WAIT_SECONDS = 10.0
"""How long a body waits for room."""

MAX_WAITING = 100
"""If more wait, the one that has waited for longest is rejected."""

STALE_SECONDS = 1.0
"""A body may be evicted if it has not grown by `LARGE_BODY_BYTES` within this time."""

CHECK_SECONDS = 0.1
STALLED_SECONDS = 0.3
"""A check that comes later than this means that the process was slow, not the clients."""

REPORT_SECONDS = 10.0
"""At most one log line about bodies without room is written in this time."""


@dataclass(slots=True, eq=False)
class LargeBody:
    """A body that may become large, and the room that it then reserves, in bytes."""

    room: int
    peer: str = ""
    size: int = 0
    progressed_at: float = 0.0
    timeout: asyncio.Timeout | None = None
    """The timeout of its next part; None while no part is awaited."""
    is_evicted: bool = False


class LargeBodyPool:
    """The large bodies of one process.

    Each reserves the size that it declares, and those of one network at most half of all. A slow
    body keeps its room only until another needs it. The newest of the waiting bodies gets room
    first, so that slow ones cannot delay it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes
        self._max_bytes_per_peer = max_bytes // 2
        self._peer_bytes: Counter[str] = Counter()
        self._held: dict[LargeBody, None] = {}
        self._waiting: dict[LargeBody, asyncio.Future[None]] = {}
        self._next_check: asyncio.Handle | None = None
        self._checked_at = math.inf
        self._evicted_count = self._rejected_count = 0
        self._report_later: asyncio.Handle | None = None
        self._reported_at = -math.inf

    async def grow(self, body: LargeBody, size: int) -> None:
        """Note how much of the body has come. The first call waits for room; may raise Problem."""
        if body not in self._held:
            await self._admit(body)
        elif size - body.size >= LARGE_BODY_BYTES:
            body.progressed_at = time.monotonic()
        else:
            return
        body.size = size

    async def _admit(self, body: LargeBody) -> None:
        if len(self._waiting) >= MAX_WAITING:
            # What has come of a waiting body is in memory too.
            oldest = self._waiting.pop(next(iter(self._waiting)))
            if not oldest.done():
                oldest.set_exception(self._reject())
        room = self._waiting[body] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                self._grant()
                await room
        except TimeoutError:
            raise self._reject() from None
        finally:
            self._waiting.pop(body, None)

    def _reject(self) -> Problem:
        self._rejected_count += 1
        self._report()
        return Problem(
            UNAVAILABLE,
            "Too many large requests are under way. Nothing was stored. Send it again after the"
            " seconds in Retry-After, or send less at a time.",
            headers=CLOSE_AND_RETRY,
        )

    def release(self, body: LargeBody) -> None:
        """Free the room of the body."""
        if body in self._held:
            self._remove(body)
            self._grant()

    def _grant(self) -> None:
        """Reserve room for waiting bodies, the newest first."""
        stale = self._find_stale()
        short: set[str] = set()
        for body, room in reversed(list(self._waiting.items())):
            if body.peer in short:
                continue
            if not self._make_room(body, stale):
                short.add(body.peer)
                continue
            del self._waiting[body]
            if not room.done():
                self._hold(body)
                room.set_result(None)
        self._check_later()

    def _check_later(self) -> None:
        if self._held and self._next_check is None:
            self._checked_at = time.monotonic()
            self._next_check = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check)

    def _check(self) -> None:
        if (stalled := self._stalled_seconds()) > 0:
            # What came meanwhile was not read, which was not the fault of the clients.
            for each in self._held:
                each.progressed_at += stalled
        self._next_check = None
        self._checked_at = math.inf
        if self._waiting:
            self._grant()
        else:
            self._check_later()

    def _stalled_seconds(self) -> float:
        """Return for how long this process checked nothing; 0 if that is usual."""
        late = time.monotonic() - self._checked_at - CHECK_SECONDS
        return late if late > STALLED_SECONDS else 0.0

    def _find_stale(self) -> list[LargeBody]:
        """Return the bodies that may be evicted, the slowest first."""
        if self._stalled_seconds() > 0:
            return []
        before = time.monotonic() - STALE_SECONDS
        coming = (each for each in self._held if each.timeout is not None)
        stale = (each for each in coming if each.progressed_at <= before)
        return sorted(stale, key=lambda each: each.progressed_at)

    def _make_room(self, body: LargeBody, stale: list[LargeBody]) -> bool:
        """Evict stale bodies until there is room for the body; none if that is not enough.

        Return whether there is room.
        """
        free, share = self._free, self._max_bytes_per_peer - self._peer_bytes[body.peer]
        evicted: list[LargeBody] = []
        for each in (each for each in stale if each.peer == body.peer):
            if share >= body.room:
                break
            evicted.append(each)
            free, share = free + each.room, share + each.room
        for each in (each for each in stale if each not in evicted):
            if free >= body.room:
                break
            evicted.append(each)
            free += each.room
        if min(free, share) < body.room:
            return False
        for each in evicted:
            stale.remove(each)
            self._evict(each)
        return True

    def _hold(self, body: LargeBody) -> None:
        self._held[body] = None
        self._free -= body.room
        self._peer_bytes[body.peer] += body.room
        body.progressed_at = time.monotonic()

    def _remove(self, body: LargeBody) -> None:
        del self._held[body]
        self._free += body.room
        self._peer_bytes[body.peer] -= body.room
        if not self._peer_bytes[body.peer]:
            del self._peer_bytes[body.peer]

    def _evict(self, body: LargeBody) -> None:
        assert body.timeout is not None
        self._remove(body)
        body.is_evicted = True
        if not body.timeout.expired():
            body.timeout.reschedule(asyncio.get_running_loop().time())
        self._evicted_count += 1
        self._report()

    def _report(self) -> None:
        if self._report_later is None:
            seconds = max(0.0, self._reported_at + REPORT_SECONDS - time.monotonic())
            self._report_later = asyncio.get_running_loop().call_later(
                seconds, self._report_now, context=Context()
            )

    def _report_now(self) -> None:
        self._report_later = None
        log.warning(events.BODIES_LIMITED, ended=self._evicted_count, rejected=self._rejected_count)
        self._evicted_count = self._rejected_count = 0
        self._reported_at = time.monotonic()
