"""What the service has acknowledged, kept by the producers to be compared with the database."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


class AcknowledgedJob(NamedTuple):
    """A job that a producer was told is stored.

    `job_id` is None where the answer does not tell the id. `expects_webhook` says that its end has
    to be told to the storm's receiver.
    """

    job_id: int | None
    account: str
    key: str
    expects_webhook: bool = False


class AcknowledgedOptOut(NamedTuple):
    """A recipient's opt-out that was acknowledged, of the address in this field of the contact."""

    job_id: int
    contact_id: int
    field: int
    address_id: int


class OptOutByAddress(NamedTuple):
    """One that was acknowledged by its address, known to the account before or not, and when."""

    account: str
    key: str
    match_key: str
    answered_at: datetime


class DisclosedId(NamedTuple):
    """A job or a contact that an answer has told the account of."""

    account: str
    id: int


class Violation(NamedTuple):
    """Something that must not be, in words without addresses, and how often it was found."""

    check: str
    what: str
    times: int = 1


@dataclass(slots=True)
class Records:
    """What the harness knows without asking the database.

    `faulty` are the contacts that a fault lets end as internal errors; no other may.
    `uncertain_jobs` are accounts and keys of jobs that a request which broke off may have made.
    `to_be_cancelled` are the jobs that anybody asked to cancel; only these may end so.
    `disclosed_jobs` and `disclosed_contacts` are what answers over HTTP were about, and `requests`
    counts those answers by status, and what was not answered. `resubmitted` counts requests that
    were sent again because the answer was lost, and `answered_twice` those of them that had been
    stored the first time.
    """

    jobs: list[AcknowledgedJob] = field(default_factory=list)
    opt_outs: list[AcknowledgedOptOut] = field(default_factory=list)
    opt_outs_by_address: list[OptOutByAddress] = field(default_factory=list)
    faulty: set[int] = field(default_factory=set)
    uncertain_jobs: set[tuple[str, str]] = field(default_factory=set)
    to_be_cancelled: set[int] = field(default_factory=set)
    disclosed_jobs: set[DisclosedId] = field(default_factory=set)
    disclosed_contacts: set[DisclosedId] = field(default_factory=set)
    violations: list[Violation] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    resubmitted: int = 0
    answered_twice: int = 0
    paused: int = 0
    cancelled: int = 0
