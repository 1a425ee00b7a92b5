"""How much of large bodies a process has in memory, and which of them make room for others."""

import asyncio
import math
import time
from collections import Counter

from producers.http.problems import RETRY_SECONDS, TOO_SLOW, UNAVAILABLE, Problem
from runtime import events, logs

log = logs.get()

LARGE_BYTES = 64 * 1024
"""A body is large when more than this has come of it; until then it is not counted."""

MOST_LARGE = 16
"""There is room for so many bodies of the most bytes that one may have, or for more smaller ones,
until they are answered."""

WAIT_SECONDS = 10.0
"""How long one more waits for room."""

STALE_SECONDS = 1.0
"""A body that has not brought `LARGE_BYTES` more within this time makes room, if another waits."""

LOOK_SECONDS = 0.1
SAY_SECONDS = 10.0
"""The log tells of bodies that had no room once in this time."""


class LargeBodies:
    """Those of one process.

    Each has room for as much as its head declares, and those of one network for half of all. What
    comes slowly has it only while nobody else needs it: to hold all of it, a stranger has to send
    as much. Of those that wait the newest is the first to have room, so that none is kept waiting
    by however many that are slow.
    """

    def __init__(self, most_bytes: int) -> None:
        self._free = most_bytes
        self._most_of_peer = most_bytes // 2
        self._of_peer: Counter[str] = Counter()
        self._held: dict[LargeBody, None] = {}
        self._waiting: dict[LargeBody, asyncio.Future[None]] = {}
        self._look: asyncio.Handle | None = None
        self._ended = self._refused = 0
        self._told_at = -math.inf

    async def admit(self, body: "LargeBody") -> None:
        """Wait until there is room for the body, and hold it; raises Problem."""
        room = self._waiting[body] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                self._grant()
                await room
        except TimeoutError:
            self._refused += 1
            self._tell()
            raise _too_many() from None
        finally:
            self._waiting.pop(body, None)

    def leave(self, body: "LargeBody") -> None:
        """Hold no room for the body any more."""
        if body in self._held:
            self._forget(body)
            self._grant()

    def _grant(self) -> None:
        """Give room to those that wait, and look again while there is not enough."""
        stale = self._stale()
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
        if self._waiting and self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._grant()

    def _stale(self) -> "list[LargeBody]":
        """Those that may be ended, the slowest first."""
        before = time.monotonic() - STALE_SECONDS
        coming = (each for each in self._held if each.waits_until is not None)
        stale = (each for each in coming if each.brought_at <= before)
        return sorted(stale, key=lambda each: each.brought_at)

    def _make_room(self, body: "LargeBody", stale: "list[LargeBody]") -> bool:
        """Whether there is room for the body, when some of the stale were ended, if need be."""
        for each in list(stale):
            is_of_use = each.peer == body.peer or not self._is_over_share(body)
            if is_of_use and not self._fits(body):
                stale.remove(each)
                self._end(each)
        return self._fits(body)

    def _fits(self, body: "LargeBody") -> bool:
        return body.room <= self._free and not self._is_over_share(body)

    def _is_over_share(self, body: "LargeBody") -> bool:
        return self._of_peer[body.peer] + body.room > self._most_of_peer

    def _hold(self, body: "LargeBody") -> None:
        self._held[body] = None
        self._free -= body.room
        self._of_peer[body.peer] += body.room
        body.brought_at = time.monotonic()

    def _forget(self, body: "LargeBody") -> None:
        del self._held[body]
        self._free += body.room
        self._of_peer[body.peer] -= body.room
        if not self._of_peer[body.peer]:
            del self._of_peer[body.peer]

    def _end(self, body: "LargeBody") -> None:
        self._forget(body)
        body.end()
        self._ended += 1
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= SAY_SECONDS:
            log.warning(events.BODIES_LIMITED, ended=self._ended, refused=self._refused)
            self._ended, self._refused, self._told_at = 0, 0, now


class LargeBody:
    """A body that may become large, and for how many bytes it then has room."""

    def __init__(self, all_of_them: LargeBodies, peer: str, room: int) -> None:
        self.peer = peer
        self.room = room
        self.brought_at = 0.0
        self.waits_until: asyncio.Timeout | None = None
        """How long its next part is waited for; None while it is not."""
        self.has_ended = False
        self._all = all_of_them
        self._size = 0

    async def grow(self, size: int) -> None:
        """Note that so much of it has come; have room for it when it has become large."""
        if not self._size:
            await self._all.admit(self)
            self._size = size
        elif size - self._size >= LARGE_BYTES:
            self._size = size
            self.brought_at = time.monotonic()

    def end(self) -> None:
        """Wait no longer for its next part."""
        assert self.waits_until is not None
        self.has_ended = True
        self.waits_until.reschedule(asyncio.get_running_loop().time())

    def leave(self) -> None:
        """Free its room."""
        self._all.leave(self)


def made_room() -> Problem:
    """Return the answer to a body that was ended."""
    return Problem(
        TOO_SLOW,
        "The body came slowly while others waited for its memory; nothing was stored. Send it"
        " again, faster or in smaller parts.",
        # What is left of it would be taken for the next request.
        headers={"Retry-After": str(RETRY_SECONDS), "Connection": "close"},
    )


def _too_many() -> Problem:
    return Problem(
        UNAVAILABLE,
        "Too many large requests are under way. Nothing was stored. Send it again after the seconds"
        " in Retry-After, or send less at a time.",
        headers={"Retry-After": str(RETRY_SECONDS), "Connection": "close"},
    )
