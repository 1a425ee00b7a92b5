"""What can befall the service: each kind of fault is a coroutine that begins it and ends it."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from chaos.fleet import Fleet
from chaos.observer import Observer
from chaos.people import Person
from chaos.producers import Producers
from chaos.proxy import RedisProxy
from chaos.schedule import Fault
from chaos.servers import StormServers


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
