"""Jobs in Postgres: storing a request, reading jobs, changing a job's state."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self

import asyncpg

from db.queries import load
from db.time_limits import IDLE_MS
from schemas.actors import Actor, format_actor
from schemas.job_key import JobKey
from schemas.outcomes import FINAL_STATES, JobState
from schemas.requests import MAX_ID

_sql = load("jobs")

CONTACTS_PER_BLOCK = 10_000
"""Listed contact ids are stored in blocks of this many."""

MAX_SCANNED_JOBS = 10_000
"""A page that is filtered by state or action scans at most this many jobs."""

_COMPUTED_FIELDS = {"actor", "unknown"}
"""Fields of `Job` that are not columns of `jobs`."""

MAX_PAGE_CHARACTERS = 300_000
"""A page of jobs ends once their evidence has this many characters. One job may have a sixth of
it; everything else about a job is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of `jobs`. The counts lag behind a running job's chunks by about a second.

    `requested_by` is who the caller says is asking, and `actor` who the caller is.
    """

    id: int
    account_id: int
    account: str
    action: str
    state: JobState
    fields: tuple[int, ...]
    params: dict[str, Any]
    evidence: dict[str, Any] | None
    selection: dict[str, Any]
    requested_by: str
    actor: str | None
    via: str | None
    idempotency_key: str | None
    request_hash: str
    correlation_id: str
    selected: int | None
    applied: int
    unchanged: int
    rejected: int
    empty: int
    propagated: int
    error: str | None
    plan_first: bool
    forecast: dict[str, Any] | None
    confirmation: dict[str, Any] | None
    confirmed_at: datetime | None
    created_at: datetime
    planned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    unknown: int | None
    """How many of the listed addresses the account did not know when the job was submitted."""

    @property
    def key(self) -> JobKey:
        """The job's key."""
        return JobKey(self.account_id, self.id)

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        """Build a job from a row of `jobs` and its derived columns.

        Enum texts become members of the vocabulary.
        """
        values = {
            name: row[name] for name in cls.__dataclass_fields__ if name not in _COMPUTED_FIELDS
        }
        values["actor"] = format_actor(row["actor_kind"], row["actor_id"])
        values["unknown"] = values["selection"].pop("unknown", None)
        values["state"] = JobState(values["state"])
        values["fields"] = tuple(values["fields"])
        return cls(**values)


class InsertedJob(NamedTuple):
    """The job of a request; `created` is False if an earlier request created it.

    `request_hash` is the job's: it shows whether the earlier request was the same. `has_failures`
    says that the job was completed with items rejected because of internal errors.
    """

    key: JobKey
    request_hash: str
    created: bool
    state: JobState
    has_failures: bool = False

    @property
    def is_incomplete(self) -> bool:
        """Whether the job has ended without doing everything that was requested."""
        return self.state in FINAL_STATES and (
            self.state is not JobState.COMPLETED or self.has_failures
        )


class NewJob(NamedTuple):
    """What a job stores of its request and of its actor."""

    account_id: int
    action: str
    fields: Sequence[int]
    params: dict[str, Any]
    selection: dict[str, Any]
    requested_by: str
    idempotency_key: str | None
    request_hash: str
    correlation_id: str
    actor: Actor
    evidence: dict[str, Any] | None = None
    plan_first: bool = False

    def columns(self) -> dict[str, Any]:
        """Return the values by the names of their columns."""
        columns = self._asdict()
        actor: Actor = columns.pop("actor")
        return {
            **columns,
            "actor_kind": actor.kind.value,
            "actor_id": actor.id,
            "via": actor.via.value,
        }


async def insert_job(connection: asyncpg.Connection, job: NewJob) -> InsertedJob:
    """Store a job in state `planning`, with its actor, unless its idempotency key is in use.

    Of two concurrent requests with one key, the second waits for the first to commit. Call
    it in READ COMMITTED: at a stricter isolation level it could miss the job of the first.
    """
    created: int | None = await _sql.insert_job(connection, **job.columns())
    if created is not None:
        key = JobKey(job.account_id, created)
        return InsertedJob(key, job.request_hash, created=True, state=JobState.PLANNING)
    assert job.idempotency_key is not None
    return await get_job_by_key(connection, job.account_id, job.idempotency_key)


async def get_job_by_key(
    connection: asyncpg.Connection, account_id: int, idempotency_key: str
) -> InsertedJob:
    """Return the account's job with this idempotency key, which must exist."""
    return (await list_jobs_by_key(connection, account_id, [idempotency_key]))[idempotency_key]


async def list_jobs_by_key(
    connection: asyncpg.Connection, account_id: int, keys: Sequence[str]
) -> dict[str, InsertedJob]:
    """Return the account's jobs that have one of the idempotency keys, by key."""
    return {
        row["idempotency_key"]: InsertedJob(
            JobKey(account_id, row["id"]),
            row["request_hash"],
            created=False,
            state=JobState(row["state"]),
            has_failures=row["has_failures"],
        )
        async for row in _sql.list_jobs_by_key(
            connection, account_id=account_id, idempotency_keys=keys
        )
    }


async def insert_merged_events(
    connection: asyncpg.Connection, job: JobKey, *, hashes: Mapping[str, str]
) -> None:
    """Store the request hashes of events that are merged into the job, by idempotency key."""
    await _sql.insert_merged_events(
        connection,
        **job._asdict(),
        idempotency_keys=list(hashes),
        request_hashes=list(hashes.values()),
    )


async def insert_job_contacts(
    connection: asyncpg.Connection, job: JobKey, contact_ids: Sequence[int]
) -> None:
    """Store the contact ids that the job lists, in blocks, by COPY."""
    starts = range(0, len(contact_ids), CONTACTS_PER_BLOCK)
    await connection.copy_records_to_table(
        "job_contacts",
        columns=("account_id", "job_id", "block_no", "contact_ids"),
        records=(
            (*job, block_no, list(contact_ids[start : start + CONTACTS_PER_BLOCK]))
            for block_no, start in enumerate(starts)
        ),
    )


async def account_of_job(connection: asyncpg.Connection, job_id: int) -> int | None:
    """Return the account of the job with this id, or None if there is no such job."""
    if not 0 < job_id <= MAX_ID:
        return None
    account_id: int | None = await _sql.account_of_job(connection, job_id=job_id)
    return account_id


async def get_job(
    connection: asyncpg.Connection, job_id: int, *, account_id: int | None = None
) -> Job | None:
    """Return the job, of any account unless `account_id` is given; None if there is no such job."""
    if not 0 < job_id <= MAX_ID:
        return None
    if account_id is None:
        account_id = await account_of_job(connection, job_id)
    row = await _sql.get_job(connection, account_id=account_id, job_id=job_id)
    return Job.from_row(row) if row else None


async def list_jobs(
    connection: asyncpg.Connection,
    *,
    account_id: int | None = None,
    before: int = MAX_ID,
    limit: int = 20,
    states: Collection[JobState] = (),
) -> list[Job]:
    """Return up to `limit` jobs with ids below `before`, newest first.

    Only jobs of the account, if given, and in one of the `states`, if given.
    """
    found: list[Job] = []
    following: int | None = before
    while following is not None and len(found) < limit:
        page, following = await list_jobs_page(
            connection,
            account_id=account_id,
            before=following,
            limit=limit - len(found),
            states=states,
        )
        found += page
    return found


async def list_jobs_page(
    connection: asyncpg.Connection,
    *,
    account_id: int | None,
    before: int = MAX_ID,
    limit: int,
    states: Collection[JobState] = (),
    action: str | None = None,
) -> tuple[list[Job], int | None]:
    """Return a page as `list_jobs` does, and `before` of the next page; None on the last page.

    Long evidence makes a page shorter. A filter by state or action scans at most
    `MAX_SCANNED_JOBS` jobs, so a page may be empty without being the last. A filter by `action`
    needs an account.
    """
    oldest = None
    if states or action is not None:
        place = {"before": before, "limit": MAX_SCANNED_JOBS}
        oldest = (
            await _sql.find_oldest_job_to_scan(connection, **place)
            if account_id is None
            else await _sql.find_oldest_job_to_scan_of_account(
                connection, account_id=account_id, **place
            )
        )
    wanted = {
        "before": before,
        "oldest": oldest or 0,
        "in_states": [state.value for state in states] or None,
        "limit": limit,
    }
    rows = (
        _sql.list_jobs_cursor(connection, **wanted)
        if account_id is None
        else _sql.list_jobs_of_account_cursor(
            connection, account_id=account_id, of_action=action, **wanted
        )
    )
    found: list[Job] = []
    characters = 0
    async with connection.transaction(readonly=True), rows as cursor:
        async for row in cursor:
            job = Job.from_row(row)
            found.append(job)
            characters += sum(map(len, (job.evidence or {}).values()))
            if len(found) == limit or characters > MAX_PAGE_CHARACTERS:
                return found, job.id
    return found, oldest


async def set_timeouts(connection: asyncpg.Connection, *, seconds: float) -> None:
    """Limit how long the transaction waits for a lock, and how long it may be idle.

    A statement that waits longer raises asyncpg.LockNotAvailableError.
    """
    await _sql.set_timeouts(connection, lock_ms=f"{seconds * 1000:.0f}", idle_ms=str(IDLE_MS))


async def terminate_chunks(connection: asyncpg.Connection, job_id: int) -> int:
    """End the connections that work on chunks of the job, and return how many there were.

    Their workers treat it as a broken connection and start again. Raises
    asyncpg.InsufficientPrivilegeError if a connection belongs to another role.
    """
    return len([row async for row in _sql.terminate_chunks(connection, job_id=job_id)])


async def set_state(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    from_states: Iterable[JobState],
    to_state: JobState,
) -> JobState | None:
    """Pause or resume a job that is in one of `from_states`, and return its new state.

    Return None if it is in another state or does not exist. A job whose selection is not frozen
    yet becomes `planning` instead of `running`.
    """
    state: str | None = await _sql.set_state(
        connection, **job._asdict(), from_states=list(from_states), to_state=to_state
    )
    return JobState(state) if state else None
