"""What the service has acknowledged, kept by the producers to be compared with the database."""

from dataclasses import dataclass, field
from typing import NamedTuple


class AcknowledgedJob(NamedTuple):
    """A job whose id a producer was given."""

    job_id: int
    account: str
    key: str


class AcknowledgedOptOut(NamedTuple):
    """A recipient's opt-out that was acknowledged, of the address in this field of the contact."""

    job_id: int
    contact_id: int
    field: int
    address_id: int


class Violation(NamedTuple):
    """Something that must not be, in words without addresses, and how often it was found."""

    check: str
    what: str
    times: int = 1


@dataclass(slots=True)
class Records:
    """What the harness knows without asking the database.

    `faulty` are the contacts that a fault lets end as internal errors; no other may.
    `resubmitted` counts requests that were sent again because the answer was lost, and
    `answered_twice` those of them that had been stored the first time.
    """

    jobs: list[AcknowledgedJob] = field(default_factory=list)
    opt_outs: list[AcknowledgedOptOut] = field(default_factory=list)
    faulty: set[int] = field(default_factory=set)
    seen: list[Violation] = field(default_factory=list)
    resubmitted: int = 0
    answered_twice: int = 0
    paused: int = 0
    cancelled: int = 0
