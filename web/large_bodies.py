"""How much of large bodies a process has in memory, and which of them make room for others."""

import asyncio
import math
import time
from collections import Counter
from contextvars import Context

from runtime import events, logs
from web.problems import REQUEST_TIMEOUT, RETRY_SECONDS, UNAVAILABLE, Problem

log = logs.get_logger()

LARGE_BODY_BYTES = 64 * 1024
"""A body is large when more than this has come of it; until then it is not counted."""

MAX_LARGE_BODIES = 16
"""There is room for so many bodies of the most bytes that one may have, or for more smaller ones,
until they are answered."""

WAIT_SECONDS = 10.0
"""How long one more waits for room."""

MAX_WAITING = 100
"""When more wait, the one that has waited for longest is refused."""

STALE_SECONDS = 1.0
"""A body that has not brought `LARGE_BODY_BYTES` more within this time makes room, if another
waits.
"""

CHECK_SECONDS = 0.1
STALLED_SECONDS = 0.3
"""When this process looks later than that, nobody has been slow but itself."""

REPORT_SECONDS = 10.0
"""The log tells of bodies that had no room once in this time."""


class LargeBodyPool:
    """The large bodies of one process.

    Each has room for as much as its head declares, and those of one network for half of all. What
    comes slowly has it only while nobody else needs it: to hold all of it, a stranger has to send
    as much. Of those that wait the newest is the first to have room, so that none is kept waiting
    by however many that are slow.
    """

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes
        self._max_bytes_per_peer = max_bytes // 2
        self._peer_bytes: Counter[str] = Counter()
        self._held: dict[LargeBody, None] = {}
        self._waiting: dict[LargeBody, asyncio.Future[None]] = {}
        self._next_check: asyncio.Handle | None = None
        self._checked_at = math.inf
        self._ended = self._refused = 0
        self._report_later: asyncio.Handle | None = None
        self._reported_at = -math.inf

    async def admit(self, body: "LargeBody") -> None:
        """Wait until there is room for the body, and hold it; raises Problem."""
        if len(self._waiting) >= MAX_WAITING:
            self._reject_oldest()
        room = self._waiting[body] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                self._grant()
                await room
        except TimeoutError:
            self._count_rejected()
            raise _too_many_problem() from None
        finally:
            self._waiting.pop(body, None)

    def _reject_oldest(self) -> None:
        """Refuse the oldest waiting body, since what has arrived of it occupies memory too."""
        waiting = self._waiting.pop(next(iter(self._waiting)))
        if not waiting.done():
            waiting.set_exception(_too_many_problem())
            self._count_rejected()

    def _count_rejected(self) -> None:
        self._refused += 1
        self._report()

    def release(self, body: "LargeBody") -> None:
        """Hold no room for the body any more."""
        if body in self._held:
            self._remove(body)
            self._grant()

    def _grant(self) -> None:
        """Give room to those that wait."""
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
            # What came meanwhile was not read: that is not the fault of those that sent it.
            for each in self._held:
                each.progressed_at += stalled
        self._next_check = None
        self._checked_at = math.inf
        if self._waiting:
            self._grant()
        else:
            self._check_later()

    def _stalled_seconds(self) -> float:
        """Return for how long this process has looked at nothing, where that is more than usual."""
        late = time.monotonic() - self._checked_at - CHECK_SECONDS
        return late if late > STALLED_SECONDS else 0.0

    def _find_stale(self) -> "list[LargeBody]":
        """Return the bodies that may be ended, the slowest first."""
        if self._stalled_seconds() > 0:
            return []
        before = time.monotonic() - STALE_SECONDS
        coming = (each for each in self._held if each.timeout is not None)
        stale = (each for each in coming if each.progressed_at <= before)
        return sorted(stale, key=lambda each: each.progressed_at)

    def _make_room(self, body: "LargeBody", stale: "list[LargeBody]") -> bool:
        """Return whether there is room for the body, after some of the stale were ended, if need
        be; none is where that would not be enough.
        """
        free, share = self._free, self._max_bytes_per_peer - self._peer_bytes[body.peer]
        to_end: list[LargeBody] = []
        for each in (each for each in stale if each.peer == body.peer):
            if share >= body.room:
                break
            to_end.append(each)
            free, share = free + each.room, share + each.room
        for each in (each for each in stale if each not in to_end):
            if free >= body.room:
                break
            to_end.append(each)
            free += each.room
        if min(free, share) < body.room:
            return False
        for each in to_end:
            stale.remove(each)
            self._end(each)
        return True

    def _hold(self, body: "LargeBody") -> None:
        self._held[body] = None
        self._free -= body.room
        self._peer_bytes[body.peer] += body.room
        body.progressed_at = time.monotonic()

    def _remove(self, body: "LargeBody") -> None:
        del self._held[body]
        self._free += body.room
        self._peer_bytes[body.peer] -= body.room
        if not self._peer_bytes[body.peer]:
            del self._peer_bytes[body.peer]

    def _end(self, body: "LargeBody") -> None:
        self._remove(body)
        body.evict()
        self._ended += 1
        self._report()

    def _report(self) -> None:
        if self._report_later is None:
            seconds = max(0.0, self._reported_at + REPORT_SECONDS - time.monotonic())
            self._report_later = asyncio.get_running_loop().call_later(
                seconds, self._report_now, context=Context()
            )

    def _report_now(self) -> None:
        self._report_later = None
        log.warning(events.BODIES_LIMITED, ended=self._ended, refused=self._refused)
        self._ended, self._refused, self._reported_at = 0, 0, time.monotonic()


class LargeBody:
    """A body that may become large, and for how many bytes it then has room."""

    def __init__(self, pool: LargeBodyPool, peer: str, room: int) -> None:
        self.peer = peer
        self.room = room
        self.progressed_at = 0.0
        self.timeout: asyncio.Timeout | None = None
        """How long its next part is waited for; None while it is not."""
        self.is_evicted = False
        self._all = pool
        self._size = 0

    async def grow(self, size: int) -> None:
        """Note that so much of it has come. The first call, when it has become large, waits for
        room, and raises Problem where there is none.
        """
        if not self._size:
            await self._all.admit(self)
            self._size = size
        elif size - self._size >= LARGE_BODY_BYTES:
            self._size = size
            self.progressed_at = time.monotonic()

    def evict(self) -> None:
        """Wait no longer for its next part."""
        assert self.timeout is not None
        self.is_evicted = True
        # Where its time is over by now, it ends by that.
        if not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time())

    def release(self) -> None:
        """Free its room."""
        self._all.release(self)


def eviction_problem() -> Problem:
    """Return the answer to a body that was ended."""
    return Problem(
        REQUEST_TIMEOUT,
        "The body came slowly while others waited for its memory; nothing was stored. Send it"
        " again, faster or in smaller parts.",
        # What is left of it would be taken for the next request.
        headers={"Retry-After": str(RETRY_SECONDS), "Connection": "close"},
    )


def _too_many_problem() -> Problem:
    return Problem(
        UNAVAILABLE,
        "Too many large requests are under way. Nothing was stored. Send it again after the seconds"
        " in Retry-After, or send less at a time.",
        headers={"Retry-After": str(RETRY_SECONDS), "Connection": "close"},
    )
