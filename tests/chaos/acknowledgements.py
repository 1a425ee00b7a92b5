"""What the service has acknowledged, for comparison with the database."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


class AcknowledgedJob(NamedTuple):
    """A job that the service acknowledged as stored.

    `job_id` is None if the response has no id. `expects_webhook` is True if the receiver must get
    its completion webhook.
    """

    job_id: int | None
    account: str
    key: str
    expects_webhook: bool = False


class AcknowledgedOptOut(NamedTuple):
    """An acknowledged opt-out by a recipient of the address in this field of the contact."""

    job_id: int
    contact_id: int
    field: int
    address_id: int


class OptOutByAddress(NamedTuple):
    """An opt-out acknowledged by address, known to the account or not, with its time."""

    account: str
    key: str
    match_key: str
    answered_at: datetime


class DisclosedId(NamedTuple):
    """A job or a contact that a response disclosed to the account."""

    account: str
    id: int


class Violation(NamedTuple):
    """A violation of a check, described without addresses, and how often it was found."""

    check: str
    what: str
    times: int = 1


@dataclass(slots=True)
class Records:
    """What the chaos run knows without asking the database.

    `faulty` are the contacts that a fault may make end as internal errors. `uncertain_jobs` are
    accounts and keys of jobs that an interrupted request may have submitted. `to_be_cancelled` are
    the jobs that were asked to be cancelled; no other job may end so. `disclosed_jobs` and
    `disclosed_contacts` are the subjects of HTTP responses. `requests` counts the responses by
    status, and requests without a response. `resubmitted` counts requests that were repeated
    because the response was lost; `answered_twice` counts those of them that had been stored the
    first time.
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
