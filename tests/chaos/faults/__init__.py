"""What can befall the service: each kind of fault is a coroutine that begins it and ends it."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.chaos.fixtures import Person
from tests.chaos.fleet import Fleet
from tests.chaos.observer import Observer
from tests.chaos.producers import Producers
from tests.chaos.schedule import Fault
from tests.kit.redis_proxy import RedisProxy
from tests.kit.servers import StormServers


class Stage(NamedTuple):
    """What the faults act upon. `groups` has contacts of the account `faults` that nobody else
    touches, for one fault after the other.
    """

    servers: StormServers
    proxy: RedisProxy
    fleet: Fleet
    observer: Observer
    producers: Producers
    groups: Iterator[list[Person]]
    tokens: Path
    namespace: str


Act = Callable[[Stage, Fault], Awaitable[str]]
"""Does a fault, returns when its cause has ended, and says in some words what it did."""
