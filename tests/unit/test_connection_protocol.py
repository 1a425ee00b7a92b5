"""What the connection protocol relies on, and how many requests start in one turn of the loop."""

import asyncio
from collections import Counter

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from web.connection_monitor import (
    MAX_STARTS_PER_ITERATION,
    ConnectionLimits,
    ConnectionMonitor,
)
from web.server_protocol import Connection, _ReadFlowControl

OVERRIDDEN = {
    *("connection_made", "connection_lost", "data_received", "resume_writing"),
    *("on_message_begin", "on_header", "on_headers_complete", "on_body", "on_message_complete"),
    *("_start_asgi_task", "on_response_complete", "send_400_response"),
    "_unsupported_upgrade_warning",
}


def test_every_overridden_method_exists():
    """Each method that the protocol overrides exists in the server."""
    for name in OVERRIDDEN:
        assert callable(getattr(HttpToolsProtocol, name, None)), name
        assert name in vars(Connection), name
    assert callable(FlowControl.resume_reading)
    assert "resume_reading" in vars(_ReadFlowControl)
    # The parser calls this method if the protocol has it; the server has none.
    assert {"on_chunk_header"} == {
        name
        for name in vars(Connection)
        if name.startswith("on_") and not hasattr(HttpToolsProtocol, name)
    }


def test_the_server_has_what_the_protocol_uses():
    """The server has every method and attribute that the protocol uses."""
    for name in ("_start_asgi_task", "_unsupported_upgrade_warning", "on_response_complete"):
        assert name in vars(HttpToolsProtocol), name
        assert getattr(Connection, name) is not getattr(HttpToolsProtocol, name)
    used = {"disconnected", "message_event", "response_complete", "more_body", "body", "keep_alive"}
    names = RequestResponseCycle.__init__.__code__.co_names
    assert used | {"waiting_for_100_continue"} <= {*names}


async def test_few_requests_start_in_one_turn_of_the_event_loop():
    """However many requests arrive together, running ones get their turn in between. All requests
    start in order of arrival.
    """
    loop = asyncio.get_running_loop()
    watch = ConnectionMonitor(ServerState(), loop, ConnectionLimits(15.0, 30.0, 100, None))
    turn, started = 0, []
    for number in range(3 * MAX_STARTS_PER_ITERATION + 1):
        watch.start(lambda number=number: started.append((turn, number)))
    while len(started) <= 3 * MAX_STARTS_PER_ITERATION:
        await asyncio.sleep(0)
        turn += 1
    assert [number for _, number in started] == [*range(len(started))]
    assert max(Counter(turn for turn, _ in started).values()) <= MAX_STARTS_PER_ITERATION
