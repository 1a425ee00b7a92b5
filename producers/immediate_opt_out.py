"""Apply a recipient's own opt-out, and commit it, before the request is answered.

A bulk job is stored first and done later. An immediate opt-out is decided first, by the rules that
workers use. Then one statement stores the job with all its decisions. If another transaction
interfered, it decides again, with locks.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from db import address_lists, immediate_opt_outs, jobs
from db.chunks import ChunkResult, ClaimedChunk
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobTotals, JobToWork
from engine.chunk_log import log_processed
from engine.chunk_reader import initial_status, max_person_count_to_read_siblings
from engine.chunk_runner import ChunkFailed, ChunkRunner
from producers.accounts import require_account
from producers.recipient_events import event_key
from producers.request_validation import ValidatedRequest, validate_request
from producers.submit import log_submitted, require_same_request, submit, with_correlation_id
from runtime import events, logs
from runtime.process import process_name
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.errors import ConcurrentLink, InvalidRequest, StaleRead
from schemas.outcomes import JobState
from schemas.requests import JobRequest
from schemas.statuses import Status

log = logs.get_logger()

MAX_TRIES = 10
"""How many times to try before the job is left to the workers."""

_ONLY_CHUNK = 1

_NOT_STORED = -1
"""An id that no job, and so no status of an address, has."""

_TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
"""What another transaction did to this one; the next try may succeed."""


class OptOutReceipt(NamedTuple):
    """The job of the request.

    `created` is False if an earlier request with the same key created it. If `applied`, the job is
    completed and committed; otherwise workers will begin with it before all other work.
    `propagated` counts the siblings that it also opted out, and `status` is that of its address
    right afterwards, if it has only one. Both are None unless this request applied it.
    """

    job_id: int
    created: bool
    applied: bool
    propagated: int | None = None
    status: Status | None = None


class _AppliedJob(NamedTuple):
    """The completed job, and the statuses of the addresses that it selected."""

    job: JobToWork
    done: ChunkResult
    seconds: float
    statuses: list[Status]


class _NotAppliedError(Exception):
    """The opt-out cannot be applied immediately, because of `__cause__`; nothing is stored."""


async def opt_out_immediately(
    pool: asyncpg.Pool,
    settings: Settings,
    request: JobRequest,
    *,
    account_id: int | None = None,
    actor: Actor = PYTHON,
) -> OptOutReceipt:
    """Apply an opt-out of a few listed contacts or addresses, and return after the commit.

    `request` is as for `submit`. Its action is urgent and may propagate; its selection lists at
    most `chunk_size` contact ids or addresses. An unknown address is stored as opted out. If the
    work fails, the job is stored for the workers. `account_id` is the account's, if it is known.

    Raises InvalidRequest, NotFound or IdempotencyConflict; nothing is stored then. Raises an error
    of `CONNECTION_ERRORS` or `TRANSIENT_ERRORS` (`db.errors`) if Postgres cannot be used. Then all
    or nothing is stored: send the request again with the same idempotency key.
    """
    began = time.perf_counter()
    checked = validate_request(request)
    _require_short_list(settings, request, checked)
    request = with_correlation_id(request)
    try:
        async with pool.acquire() as connection:
            account_id = account_id or await require_account(connection, request.account)
            attempt = _Attempt(connection, settings, request, checked, account_id, actor, began)
            applied = await attempt.apply_with_retries()
            if applied is None:
                key = request.idempotency_key or ""
                earlier = await jobs.get_job_by_key(connection, account_id, key)
                require_same_request(earlier, request, checked.request_hash)
                if not earlier.is_incomplete:
                    return earlier_receipt(earlier)
    except _NotAppliedError as failed:
        # Outside of the block above: the pool may have no second connection to give.
        error = type(failed.__cause__).__name__
        return await defer_to_workers(pool, settings, request, error=error, actor=actor)
    if applied is None:
        # The earlier job ended without applying the opt-out: apply it now, under a new key.
        return await opt_out_immediately(
            pool, settings, repeat_request(request, earlier), account_id=account_id, actor=actor
        )
    attempt.log(applied)
    return OptOutReceipt(
        applied.job.id,
        created=True,
        applied=True,
        propagated=applied.done.counts.propagated,
        status=applied.statuses[0] if len(applied.statuses) == 1 else None,
    )


async def defer_to_workers(
    pool: asyncpg.Pool,
    settings: Settings,
    request: JobRequest,
    *,
    error: str,
    merged_hashes: Mapping[str, str] | None = None,
    actor: Actor,
) -> OptOutReceipt:
    """Store an opt-out that cannot be applied now, because of the `error`, for the workers."""
    submitted = await submit(
        pool, settings, request, is_verbatim=True, merged_hashes=merged_hashes, actor=actor
    )
    log.warning(
        events.OPT_OUT_DEFERRED,
        job=submitted.job_id,
        account=submitted.account_id,
        action=request.action,
        error=error,
        correlation_id=request.correlation_id,
    )
    return OptOutReceipt(submitted.job_id, submitted.created, applied=False)


def _require_short_list(settings: Settings, request: JobRequest, checked: ValidatedRequest) -> None:
    action = checked.action
    if not (action.urgent and action.may_propagate):
        raise InvalidRequest(
            f"The action {action.name!r} is not an opt-out and cannot be applied immediately."
            " Nothing was stored. Submit it as a bulk job."
        )
    selection = request.selection
    listed = checked.contacts if checked.addresses is None else checked.addresses
    by_list = selection.conditions <= {"contacts", "addresses"}
    later = request.plan_first or request.completion_url is not None
    if not listed or not by_list or later:
        raise InvalidRequest(
            "An immediate opt-out takes only a list of contact ids or addresses, without a plan or"
            " a completion_url. Nothing was stored. Submit a bulk job for anything else."
        )
    if len(listed) > settings.chunk_size:
        raise InvalidRequest(
            f"The request lists {len(listed):,} contacts or addresses, but an immediate opt-out"
            f" takes at most {settings.chunk_size:,} (CHUNK_SIZE). Nothing was stored. Submit it"
            " as a bulk job."
        )


class _Attempt(NamedTuple):
    """One request's tries to apply an opt-out."""

    connection: asyncpg.Connection
    settings: Settings
    request: JobRequest
    checked: ValidatedRequest
    account_id: int
    actor: Actor
    began: float

    @property
    def worker(self) -> str:
        return process_name(self.settings)

    async def apply_with_retries(self) -> _AppliedJob | None:
        """Try until no other transaction interferes; return None if the key already has a job.

        Raises _NotAppliedError if the work fails or after `MAX_TRIES`.
        """
        interference: BaseException | None = None
        for _ in range(MAX_TRIES):
            try:
                if interference is None:
                    # Nearly always nothing interferes. The statement writes nothing if what was
                    # read has changed, so the first try takes neither locks nor a transaction.
                    return await self._apply(lock_all=False)
                async with self.connection.transaction():
                    await immediate_opt_outs.set_idle_timeout(self.connection)
                    return await self._apply(lock_all=True)
            except (StaleRead, ConcurrentLink) as error:
                interference = error
            except Exception as raised:  # noqa: BLE001 - others are raised by the function
                interference = _transient_or_raise(raised)
        raise _NotAppliedError from interference

    async def _apply(self, *, lock_all: bool) -> _AppliedJob | None:
        began = time.perf_counter()
        request, checked = self.request, self.checked
        runner = ChunkRunner.for_job(
            self._job(),
            role_address_limit=self.settings.role_address_limit,
            worker=self.worker,
        )
        action, params = runner.action, runner.params
        listed = None
        if checked.addresses:
            listed = await address_lists.look_up_addresses(
                self.connection,
                account_id=self.account_id,
                addresses=checked.addresses,
                role_address_limit=max_person_count_to_read_siblings(
                    action, params, runner.role_address_limit
                ),
            )
            checked = checked._replace(unknown=len(listed.new.ids))
        items = listed.item_ids if listed else checked.contacts or []
        chunk = ClaimedChunk(_ONLY_CHUNK, items, attempts=0)
        decided = await runner.decide(self.connection, chunk, lock_all=lock_all, lookup=listed)
        now = time.perf_counter()
        duration_ms = round((now - began) * 1000)
        written = await immediate_opt_outs.insert_completed_job(
            self.connection,
            checked.new_job(self.account_id, request, self.actor),
            chunk=chunk,
            received_at=decided.snapshot.decided_at - timedelta(seconds=now - self.began),
            decided_at=decided.snapshot.decided_at,
            rows=decided.decisions.rows,
            contacts=decided.snapshot.contacts,
            new=listed and listed.new,
            new_status=initial_status(action, params),
            changes=decided.changes,
            versions=decided.snapshot.versions,
            counts=decided.counts,
            worker=runner.worker,
            duration_ms=duration_ms,
        )
        if written is None:
            return None
        done = ChunkResult(chunk.chunk_no, decided.counts, chunk.attempts, duration_ms)
        return _AppliedJob(
            replace(runner.job, id=written.job_id), done, written.seconds, decided.statuses()
        )

    def _job(self) -> JobToWork:
        """Return the job for the decisions, which do not use its id."""
        return JobToWork(
            id=_NOT_STORED,
            account_id=self.account_id,
            action=self.checked.action.name,
            state="running",
            fields=self.request.field_numbers,
            params=self.checked.params,
            correlation_id=self.request.correlation_id or "",
            planned_at=None,
            started_at=None,
        )

    def log(self, applied: _AppliedJob) -> None:
        job = applied.job
        done, unchanged, rejected, empty, propagated, _ = applied.done.counts
        selected = done + unchanged + rejected + empty
        totals = JobTotals(selected, done, unchanged, rejected, empty, propagated, applied.seconds)
        log_submitted(job.key, self.checked, self.request, self.actor)
        with logs.bind_context(correlation_id=job.correlation_id):
            log_processed(job, applied.done, attempt=1, worker=self.worker)
            log.info(events.JOB_COMPLETED, **job.log_fields, **totals._asdict())


def _transient_or_raise(raised: Exception) -> BaseException:
    """Return the driver's error if another try on this connection may succeed.

    Raises the error if the connection cannot be used, and _NotAppliedError if the work failed.
    """
    error: BaseException = raised
    if isinstance(raised, ChunkFailed) and raised.__cause__ is not None:
        error = raised.__cause__
    if isinstance(error, _TRANSIENT_ERRORS):
        return error
    if isinstance(error, TRANSIENT_ERRORS):
        raise error from None
    raise _NotAppliedError from error


def repeat_request(request: JobRequest, earlier: jobs.InsertedJob) -> JobRequest:
    """Return the request to do, under a new key, what the earlier job left undone."""
    key = event_key("again", earlier.key.job_id, event_id=request.idempotency_key or "")
    return request.model_copy(update={"idempotency_key": key})


def earlier_receipt(earlier: jobs.InsertedJob) -> OptOutReceipt:
    """Return the receipt of an opt-out that already has a job."""
    return OptOutReceipt(
        earlier.key.job_id, created=False, applied=earlier.state == JobState.COMPLETED
    )
