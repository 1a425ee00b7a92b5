"""What can befall the service: each kind of fault is a coroutine that begins it and ends it."""

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
    """What the faults act upon. `groups` has contacts of the account `faults` that nobody else
    touches, for one fault after the other.
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
"""Does a fault, returns when its cause has ended, and says in some words what it did."""
