"""Which large bodies are evicted to make room for others."""

import asyncio
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web import large_bodies
from web.large_bodies import LARGE_BODY_BYTES, LargeBody, LargeBodyPool
from web.problems import Problem

ROOM = 1_000


async def coming(bodies: LargeBodyPool, peer: str, room: int) -> tuple[LargeBody, asyncio.Task]:
    """Return a body that holds room, and the task that waits for its next part."""
    body = LargeBody(room, peer)
    await bodies.grow(body, LARGE_BODY_BYTES + 1)

    async def wait() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(30) as body.timeout:
                await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return body, waiting


peers = st.sampled_from("abc")
rooms = st.integers(50, ROOM // 2)


@given(held=st.lists(st.tuples(peers, rooms), max_size=8), peer=peers, room=rooms)
async def test_bodies_are_evicted_only_if_that_makes_room(held, peer, room):
    """Only as many slow bodies are evicted as a new body needs, and none if that is not enough. The
    bodies held never exceed the limit.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(large_bodies, "WAIT_SECONDS", 0.0)
    patch.setattr(large_bodies, "STALE_SECONDS", -1.0)
    patch.setattr(large_bodies, "REPORT_SECONDS", 1_000.0)
    with patch.context():
        bodies, waits = LargeBodyPool(ROOM), []
        for each in held:
            patch.setattr(large_bodies, "STALE_SECONDS", 1_000.0)
            with suppress(Problem):
                waits.append(await coming(bodies, *each))
        patch.setattr(large_bodies, "STALE_SECONDS", -1.0)
        new = LargeBody(room, peer)
        try:
            await bodies.grow(new, LARGE_BODY_BYTES + 1)
            has_room = True
        except Problem:
            has_room = False
        ended = [body for body, _ in waits if body.is_evicted]
        left = [body for body, _ in waits if not body.is_evicted] + [new] * has_room
        assert sum(body.room for body in left) <= ROOM
        assert sum(body.room for body in left if body.peer == peer) <= ROOM // 2
        # Every body may be evicted in this test, so room can always be made.
        assert has_room
        for body in ended:
            without = [*left, body]
            of_peer = sum(each.room for each in without if each.peer == peer)
            is_needed = sum(each.room for each in without) > ROOM
            assert is_needed or of_peer > ROOM // 2 or len(ended) > 1
        for _, waiting in waits:
            waiting.cancel()
    patch.undo()


async def test_a_body_that_is_too_small_is_not_evicted(monkeypatch):
    """A slow body is not evicted if it is too small for the new one and all others are fast."""
    monkeypatch.setattr(large_bodies, "WAIT_SECONDS", 0.05)
    bodies = LargeBodyPool(ROOM)
    slow, waiting = await coming(bodies, "a", 200)
    others = [await coming(bodies, peer, 400) for peer in "bc"]
    slow.progressed_at -= 60
    with pytest.raises(Problem, match="Too many large"):
        await bodies.grow(LargeBody(400, "d"), LARGE_BODY_BYTES + 1)
    assert not slow.is_evicted
    await bodies.grow(LargeBody(200, "d"), LARGE_BODY_BYTES + 1)
    assert slow.is_evicted
    await waiting
    for _, each in others:
        each.cancel()


async def test_a_blocked_process_evicts_no_body(monkeypatch):
    """A process that was blocked could not read, so bodies that were fast before still count as
    fast.
    """
    monkeypatch.setattr(large_bodies, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(large_bodies, "STALE_SECONDS", 0.5)
    bodies = LargeBodyPool(ROOM)
    held = [await coming(bodies, peer, 500) for peer in "ab"]
    await asyncio.sleep(0)
    time.sleep(0.7)  # noqa: ASYNC251 - the event loop stands still
    with pytest.raises(Problem, match="Too many large"):
        await bodies.grow(LargeBody(400, "c"), LARGE_BODY_BYTES + 1)
    assert not any(body.is_evicted for body, _ in held)
    for _, waiting in held:
        waiting.cancel()


async def test_a_body_that_timed_out_can_be_evicted(monkeypatch):
    """A timeout and an eviction may happen in the same turn of the event loop."""
    monkeypatch.setattr(large_bodies, "STALE_SECONDS", -1.0)
    bodies = LargeBodyPool(ROOM)
    body = LargeBody(500, "a")
    await bodies.grow(body, LARGE_BODY_BYTES + 1)
    with suppress(TimeoutError):
        async with asyncio.timeout(0) as body.timeout:
            await asyncio.Event().wait()
    await bodies.grow(LargeBody(500, "a"), LARGE_BODY_BYTES + 1)
    assert body.is_evicted
