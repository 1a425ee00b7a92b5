"""The faults: each kind is a coroutine that begins the cause and ends it."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.chaos.fault_plan import Fault
from tests.chaos.fixtures import SampleContact
from tests.chaos.fleet import Fleet
from tests.chaos.observer import Observer
from tests.chaos.python_client import PythonClient
from tests.kit.redis_proxy import RedisProxy
from tests.kit.servers import ChaosServers


class FaultContext(NamedTuple):
    """What faults need. `groups` yields contacts of the account `faults` for one fault at a time;
    nothing else changes them.
    """

    servers: ChaosServers
    proxy: RedisProxy
    fleet: Fleet
    observer: Observer
    producers: PythonClient
    groups: Iterator[list[SampleContact]]
    tokens: Path
    namespace: str


InjectFault = Callable[[FaultContext, Fault], Awaitable[str]]
"""Inject a fault, wait for the end of its cause, and return a text that says what it did."""
