"""What has to hold when the storm is over and everything has come to rest."""

from collections.abc import Sequence
from typing import NamedTuple

from chaos.contact_lists import LIMIT
from chaos.log_checks import NO_ADDRESS, NOT_FAILED, NOT_GONE, NOT_LONG, TOLD_ONCE
from chaos.observer import Observer
from chaos.records import Records, Violation
from chaos.recovery import GOAL_SECONDS, Recovery
from chaos.traffic import ANSWERED, IN_FORCE
from db.invariants import INVARIANTS, Example, Invariant, check

KEPT_JOBS = "every acknowledged job is there once, with its key"
KEPT_OPT_OUTS = "every acknowledged opt-out is in force and in the ledger"
NO_FAILED_JOB = "no job failed"
DONE = "every fault could be done"
ONLY_FAULTY = "only the faulty contacts ended as internal errors"
RECOVERED = f"every fault was made good within {GOAL_SECONDS:.0f} seconds"

OWN = (
    KEPT_JOBS,
    KEPT_OPT_OUTS,
    NO_FAILED_JOB,
    ONLY_FAULTY,
    "a paused job changes nothing",
    "a cancelled job changes nothing",
    ANSWERED,
    IN_FORCE,
    DONE,
    "no process outlives its group",
    "the fleet ends when it is asked to",
    NOT_GONE,
    NOT_FAILED,
    NO_ADDRESS,
    NOT_LONG,
    TOLD_ONCE,
    RECOVERED,
)
"""The storm's own checks, beside the invariants of the service."""


class Checked(NamedTuple):
    """A check, how often it was violated, and the first few times."""

    name: str
    violations: int
    examples: list[str]


async def check_database(observer: Observer, records: Records) -> tuple[list[str], list[Violation]]:
    """The names of the service's invariants, and everything that the database shows to be wrong."""
    found = [
        *await _lost_jobs(observer, records),
        *await _lost_opt_outs(observer, records),
        *await _failures(observer, records),
    ]
    for invariant in INVARIANTS:
        found += await _broken(observer, invariant)
    return [invariant.claim for invariant in INVARIANTS], found


async def _broken(observer: Observer, invariant: Invariant) -> list[Violation]:
    """What `sluice verify` would find."""
    async with observer.pool.acquire() as connection:
        result = await check(connection, invariant, shared_address_limit=LIMIT)
    violations = [Violation(invariant.claim, _in_words(example)) for example in result.examples]
    more = result.violations - len(violations)
    return violations + ([Violation(invariant.claim, f"{more} more", more)] if more else [])


def _in_words(example: Example) -> str:
    ids = example._asdict()
    detail = ids.pop("detail")
    return ", ".join(
        [*(f"{name} {value}" for name, value in ids.items() if value is not None), detail]
    )


async def _lost_jobs(observer: Observer, records: Records) -> list[Violation]:
    keys = [job.key for job in records.jobs]
    stored = {
        (row["account"], row["idempotency_key"]): row["id"]
        for row in await observer.rows("jobs_of_keys", keys=keys)
    }
    return [
        Violation(KEPT_JOBS, f"job {job.job_id}, key {job.key!r}")
        for job in records.jobs
        if stored.get((job.account, job.key)) != job.job_id
    ]


async def _lost_opt_outs(observer: Observer, records: Records) -> list[Violation]:
    columns = list(zip(*records.opt_outs, strict=True)) or [(), (), (), ()]
    jobs, contacts, fields, addresses = (list(column) for column in columns)
    rows = await observer.rows(
        "unkept_opt_outs", jobs=jobs, contacts=contacts, fields=fields, addresses=addresses
    )
    return [
        Violation(
            KEPT_OPT_OUTS,
            f"job {row['job_id']}: address {row['address_id']} is {row['status']},"
            f" {'a' if row['has_result'] else 'no'} result",
        )
        for row in rows
    ]


async def _failures(observer: Observer, records: Records) -> list[Violation]:
    failed = await observer.rows("failed_jobs")
    errors = await observer.rows("internal_errors", meant=list(records.faulty))
    return [
        *(
            Violation(NO_FAILED_JOB, f"job {row['id']} {row['action']}: {row['error']}")
            for row in failed
        ),
        *(
            Violation(
                ONLY_FAULTY, f"job {row['job_id']} {row['action']}: contact {row['contact_id']}"
            )
            for row in errors
        ),
    ]


def late(recoveries: Sequence[Recovery]) -> list[Violation]:
    """The faults that took too long to be made good."""
    return [
        Violation(
            RECOVERED,
            f"{recovery.kind}: "
            + ("never" if recovery.seconds is None else f"{recovery.seconds:.1f} s"),
        )
        for recovery in recoveries
        if recovery.seconds is None or recovery.seconds > GOAL_SECONDS
    ]


def tally(names: Sequence[str], found: Sequence[Violation], *, most: int = 5) -> list[Checked]:
    """Every check with what was found of it; also of a check that nobody had named."""
    checked = []
    for name in dict.fromkeys([*names, *OWN, *(violation.check for violation in found)]):
        of_it = [violation for violation in found if violation.check == name]
        times = sum(violation.times for violation in of_it)
        checked.append(Checked(name, times, [violation.what for violation in of_it[:most]]))
    return checked
