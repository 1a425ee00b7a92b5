"""The faults of a chaos run and their times, drawn from a seed: the same seed, the same plan."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple


class Plan(NamedTuple):
    """The options of a chaos run: its `seconds`, or `is_one_by_one` for one fault of each kind,
    each after the recovery from the previous one.

    `patience` multiplies the time allowed for recovery, for a busy machine.
    """

    seed: int
    seconds: float
    is_one_by_one: bool = False
    patience: float = 1.0


class Kind(StrEnum):
    """A kind of fault; `docs/chaos.md` has a paragraph on each."""

    WORKER_KILLED = "worker_killed"
    GROUP_KILLED = "group_killed"
    GROUP_TERMINATED = "group_terminated"
    WORKER_STOPPED = "worker_stopped"
    REDIS_WIPED = "redis_wiped"
    REDIS_KILLED = "redis_killed"
    REDIS_STALLED = "redis_stalled"
    MESSAGES_TRIPLED = "messages_tripled"
    POSTGRES_RESTARTED = "postgres_restarted"
    CONNECTIONS_TERMINATED = "connections_terminated"
    DECISION_RAISES = "decision_raises"
    WRITE_FAILS = "write_fails"
    LOOP_BLOCKED = "loop_blocked"
    WORKER_POISONED = "worker_poisoned"
    WEB_KILLED = "web_killed"
    WEB_TERMINATED = "web_terminated"
    WEB_STOPPED = "web_stopped"


class Fault(NamedTuple):
    """A fault that begins `at` seconds after the start and whose cause lasts `duration` seconds.

    `draw`, from 0 to less than 1, chooses its victim among the processes present at that moment.
    """

    at: float
    kind: Kind
    duration: float
    draw: float


STOPPED_SECONDS = 17.0
"""Longer than any heartbeat: dramatiq considers a worker lost after 15."""

STALLED_SECONDS = 8.0

WEB_STOPPED_SECONDS = 9.0
"""Longer than a client waits for a response before it repeats the request."""

_DURATIONS: dict[Kind, tuple[float, float]] = {
    Kind.WORKER_STOPPED: (STOPPED_SECONDS, STOPPED_SECONDS),
    Kind.REDIS_KILLED: (0.0, 5.0),
    Kind.REDIS_STALLED: (STALLED_SECONDS, STALLED_SECONDS),
    Kind.MESSAGES_TRIPLED: (5.0, 5.0),
    Kind.POSTGRES_RESTARTED: (0.0, 5.0),
    Kind.WRITE_FAILS: (3.0, 5.0),
    Kind.LOOP_BLOCKED: (7.0, 7.0),
    Kind.WORKER_POISONED: (12.0, 12.0),
    Kind.WEB_STOPPED: (WEB_STOPPED_SECONDS, WEB_STOPPED_SECONDS),
}
"""The shortest and the longest duration of each kind whose cause lasts, in seconds."""

FAULT_GROUPS: tuple[tuple[Kind, ...], ...] = (
    (Kind.WORKER_KILLED, Kind.GROUP_TERMINATED, Kind.GROUP_KILLED),
    (Kind.WORKER_STOPPED,),
    (Kind.REDIS_WIPED, Kind.REDIS_KILLED, Kind.REDIS_STALLED),
    (Kind.POSTGRES_RESTARTED, Kind.CONNECTIONS_TERMINATED),
    (Kind.MESSAGES_TRIPLED, Kind.DECISION_RAISES, Kind.WRITE_FAILS),
    (Kind.LOOP_BLOCKED, Kind.WORKER_POISONED),
    (Kind.WEB_KILLED, Kind.WEB_TERMINATED, Kind.WEB_STOPPED),
)
"""Faults of one group affect the same thing and never overlap. Faults of different groups may."""

_FIRST_FAULT_SECONDS = 2.0
_MIN_GAP_SECONDS = 1.0
_CALM_SECONDS = 15.0
"""Seconds without a fault at the end; fewer in a short run."""

_ALL_KINDS_SECONDS = 120.0
"""A run of this length has a fault of every kind."""

_SECONDS_PER_FAULT = 40.0
"""There is one fault of each kind in this time: three in two minutes."""


def draw_faults(seed: int, seconds: float) -> list[Fault]:
    """Return the faults in the order of their times.

    Each kind has one fault in `_SECONDS_PER_FAULT`. A run too short for that has as many as fit,
    of as many kinds as possible.
    """
    draw = Random(f"faults {seed} {seconds}")
    ends = seconds - min(_CALM_SECONDS, seconds / 4)
    faults = [
        fault
        for lane in FAULT_GROUPS
        for fault in _lane(draw, lane, _FIRST_FAULT_SECONDS, ends, seconds)
    ]
    return sorted(faults)


def plan_faults(plan: Plan) -> list[Fault]:
    """Return the faults of a plan: one by one, the first of each kind."""
    if not plan.is_one_by_one:
        return draw_faults(plan.seed, plan.seconds)
    first: dict[Kind, Fault] = {}
    for fault in draw_faults(plan.seed, _ALL_KINDS_SECONDS):
        first.setdefault(fault.kind, fault)
    return list(first.values())


def _lane(
    draw: Random, kinds: Sequence[Kind], begins: float, ends: float, seconds: float
) -> Iterator[Fault]:
    wanted = max(1, -int(-seconds // _SECONDS_PER_FAULT))
    lasting: list[tuple[Kind, float]] = []
    free = ends - begins
    for _ in range(wanted):
        for kind in draw.sample(kinds, len(kinds)):
            lasts = round(draw.uniform(*_DURATIONS.get(kind, (0.0, 0.0))), 2)
            if free >= lasts + _MIN_GAP_SECONDS:
                free -= lasts + _MIN_GAP_SECONDS
                lasting.append((kind, lasts))
    spent = 0.0
    for place, (kind, lasts) in enumerate(lasting):
        # The remaining time is split randomly between them, each within its share.
        waited = (place + draw.random()) * free / len(lasting)
        yield Fault(round(begins + waited + spent, 2), kind, lasts, draw.random())
        spent += lasts + _MIN_GAP_SECONDS
