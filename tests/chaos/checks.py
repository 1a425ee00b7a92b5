"""What must hold after a chaos run, once all work has stopped."""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from db.invariants import INVARIANTS, Invariant, InvariantViolation, check_invariant
from tests.chaos.acknowledgements import AcknowledgedJob, Records, Violation
from tests.chaos.contact_lists import LIMIT
from tests.chaos.controls import CANCELLED, PAUSED
from tests.chaos.dyno_supervisor import ENDS, ORPHANS
from tests.chaos.idle_checks import IDLE, NO_LANE_HELD
from tests.chaos.log_checks import DECLARED, LOGGED_ONCE, NO_ADDRESS, NOT_FAILED, NOT_GONE, NOT_LONG
from tests.chaos.observer import Observer
from tests.chaos.opt_out_checks import OPT_OUT_IN_FORCE
from tests.chaos.recovery import GOAL_SECONDS, Recovery
from tests.chaos.traffic_runner import ANSWERED
from tests.chaos.web_checks import KEPT_ADDRESSED, NOT_ANOTHERS, NOT_REOPENED, check_web
from tests.chaos.web_client import FAILED
from tests.chaos.web_plans import UNTOUCHED
from tests.chaos.web_producers import OWN_ANSWER, REPLAYED
from tests.chaos.web_readers import COMPLETE_STREAM, FOLLOWED, FOREIGN
from tests.chaos.webhook_checks import DELIVERED, RIGHT

KEPT_JOBS = "every acknowledged job is stored once, under its key"
KEPT_OPT_OUTS = "every acknowledged opt-out is in force and has its result"
NO_FAILED_JOB = "no job failed"
FAULTS_INJECTED = "every fault was injected"
ONLY_FAULTY = "only faulty contacts ended as internal errors"
ASKED_FOR = "every stored job belongs to a request"
ENDED_RIGHT = "every job is completed, or was cancelled on request"
RECOVERED = "the workers recovered from every fault in time"
SERVES = "the web process recovered from every fault in time"

CHAOS_CHECKS = (
    KEPT_JOBS,
    ASKED_FOR,
    ENDED_RIGHT,
    KEPT_OPT_OUTS,
    KEPT_ADDRESSED,
    NOT_REOPENED,
    NO_FAILED_JOB,
    ONLY_FAULTY,
    PAUSED,
    CANCELLED,
    UNTOUCHED,
    ANSWERED,
    OWN_ANSWER,
    REPLAYED,
    OPT_OUT_IN_FORCE,
    FAILED,
    COMPLETE_STREAM,
    FOLLOWED,
    FOREIGN,
    NOT_ANOTHERS,
    DELIVERED,
    RIGHT,
    FAULTS_INJECTED,
    ORPHANS,
    ENDS,
    NOT_GONE,
    NOT_FAILED,
    DECLARED,
    NO_ADDRESS,
    NOT_LONG,
    LOGGED_ONCE,
    RECOVERED,
    SERVES,
    NO_LANE_HELD,
    IDLE,
)
"""The checks of a chaos run, in addition to the invariants of the service."""


class CheckResult(NamedTuple):
    """A check, how often it was violated, and the first few violations."""

    name: str
    violations: int
    examples: list[str]


async def check_database(observer: Observer, records: Records) -> tuple[list[str], list[Violation]]:
    """Return the names of the invariants, and every violation that the database shows."""
    found = [
        *await _check_jobs(observer, records),
        *await _check_opt_outs(observer, records),
        *await _check_failures(observer, records),
        *await check_web(observer, records),
    ]
    for invariant in INVARIANTS:
        found += await _check_invariant(observer, invariant)
    return [invariant.claim for invariant in INVARIANTS], found


async def _check_invariant(observer: Observer, invariant: Invariant) -> list[Violation]:
    """Return what `sluice verify` would find."""
    async with observer.pool.acquire() as connection:
        result = await check_invariant(connection, invariant, role_address_limit=LIMIT)
    violations = [Violation(invariant.claim, _describe(example)) for example in result.examples]
    more = result.violations - len(violations)
    return violations + ([Violation(invariant.claim, f"{more} more", more)] if more else [])


def _describe(example: InvariantViolation) -> str:
    ids = example._asdict()
    detail = ids.pop("detail")
    return ", ".join(
        [*(f"{name} {value}" for name, value in ids.items() if value is not None), detail]
    )


async def _check_jobs(observer: Observer, records: Records) -> list[Violation]:
    """Compare the stored jobs with the acknowledged ones, by their keys."""
    rows = await observer.rows("job_ends")
    stored = {(row["account"], key): row for row in rows for key in row["keys"]}
    acknowledged = {(job.account, job.key) for job in records.jobs}
    return [
        *(
            Violation(KEPT_JOBS, f"job {job.job_id}, key {job.key!r}")
            for job in records.jobs
            if not _is_kept(job, stored.get((job.account, job.key)))
        ),
        *(
            Violation(ASKED_FOR, f"job {row['id']}, key {key[1]!r}")
            for key, row in stored.items()
            if key not in acknowledged and key not in records.uncertain_jobs
        ),
        *(
            Violation(ENDED_RIGHT, f"job {row['id']} is {row['state']}")
            for row in rows
            if not _has_expected_end(row, records)
        ),
    ]


def _is_kept(job: AcknowledgedJob, row: asyncpg.Record | None) -> bool:
    """Return whether the job is stored, under its id if the answer contained one."""
    return row is not None and job.job_id in (None, row["id"])


def _has_expected_end(row: asyncpg.Record, records: Records) -> bool:
    """Return whether it completed or was cancelled on request; another check finds failed jobs."""
    may_be_cancelled = row["id"] in records.to_be_cancelled
    return row["state"] in ("completed", "failed") or (
        row["state"] == "cancelled" and may_be_cancelled
    )


async def _check_opt_outs(observer: Observer, records: Records) -> list[Violation]:
    columns = list(zip(*records.opt_outs, strict=True)) or [(), (), (), ()]
    jobs, contacts, fields, addresses = (list(column) for column in columns)
    rows = await observer.rows(
        "missing_opt_outs", jobs=jobs, contacts=contacts, fields=fields, addresses=addresses
    )
    return [
        Violation(
            KEPT_OPT_OUTS,
            f"job {row['job_id']}: address {row['address_id']} is {row['status']},"
            f" {'a' if row['has_result'] else 'no'} result",
        )
        for row in rows
    ]


async def _check_failures(observer: Observer, records: Records) -> list[Violation]:
    failed = await observer.rows("failed_jobs")
    errors = await observer.rows("internal_errors", meant=list(records.faulty))
    return [
        *(
            Violation(NO_FAILED_JOB, f"job {row['id']} {row['action']}: {row['error']}")
            for row in failed
        ),
        *(
            Violation(ONLY_FAULTY, f"job {row['job_id']} {row['action']}: item {row['item_id']}")
            for row in errors
        ),
    ]


def late_recoveries(recoveries: Sequence[Recovery], patience: float = 1.0) -> list[Violation]:
    """Return the faults from which the service recovered too late."""
    return [
        Violation(check, f"{recovery.kind}: " + ("never" if took is None else f"{took:.1f} s"))
        for recovery in recoveries
        for check, took in ((RECOVERED, recovery.seconds), (SERVES, recovery.web))
        if took is None or took > GOAL_SECONDS * patience
    ]


def count_violations(
    names: Sequence[str], found: Sequence[Violation], *, limit: int = 5
) -> list[CheckResult]:
    """Return every check with its violations, including checks that are not in `names`."""
    checked = []
    for name in dict.fromkeys([*names, *CHAOS_CHECKS, *(violation.check for violation in found)]):
        of_it = [violation for violation in found if violation.check == name]
        times = sum(violation.times for violation in of_it)
        checked.append(CheckResult(name, times, [violation.what for violation in of_it[:limit]]))
    return checked
