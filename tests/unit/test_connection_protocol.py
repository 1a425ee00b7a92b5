"""What the protocol of a connection builds on, and how many requests begin together."""

import asyncio
from collections import Counter

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from web.connections import (
    MAX_STARTS_PER_ITERATION,
    Connection,
    ConnectionLimits,
    _ConnectionMonitor,
    _ReadFlowControl,
)
from web.header_limit import HeaderLimitProtocol


@pytest.mark.parametrize(
    ("ours", "theirs"), [(HeaderLimitProtocol, HttpToolsProtocol), (_ReadFlowControl, FlowControl)]
)
def test_what_is_overridden_is_there(ours, theirs):
    """Each method that ends in a call of the server's own is one of the server's."""
    # The parser calls `on_chunk_header` of whoever has it.
    own = {"_begin_head", "_mark_last", "_end", "_has_valid_host", "_refuse", "on_chunk_header"}
    for name, value in vars(ours).items():
        if callable(value) and not name.startswith("__") and name not in own:
            assert callable(getattr(theirs, name, None)), name


def test_the_server_has_what_a_connection_asks_of_it():
    """Methods that are overridden, and what is read of a request that is under way."""
    for name in ("_start_asgi_task", "_unsupported_upgrade_warning", "on_response_complete"):
        assert name in vars(HttpToolsProtocol), name
        assert getattr(Connection, name) is not getattr(HttpToolsProtocol, name)
    used = {"disconnected", "message_event", "response_complete", "more_body", "body", "keep_alive"}
    names = RequestResponseCycle.__init__.__code__.co_names
    assert used | {"waiting_for_100_continue"} <= {*names}


async def test_few_requests_begin_in_a_turn_of_the_event_loop():
    """However many come together, those under way have their turn between them, and all begin in
    the order in which they came.
    """
    loop = asyncio.get_running_loop()
    watch = _ConnectionMonitor(ServerState(), loop, ConnectionLimits(15.0, 30.0, 100, None))
    turn, begun = 0, []
    for number in range(3 * MAX_STARTS_PER_ITERATION + 1):
        watch.start(lambda number=number: begun.append((turn, number)))
    while len(begun) <= 3 * MAX_STARTS_PER_ITERATION:
        await asyncio.sleep(0)
        turn += 1
    assert [number for _, number in begun] == [*range(len(begun))]
    assert max(Counter(turn for turn, _ in begun).values()) <= MAX_STARTS_PER_ITERATION
