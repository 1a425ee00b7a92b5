"""The way in for a recipient's own opt-out: applied and committed before it is answered.

A bulk job is stored first and worked on later. For one person who clicks "unsubscribe", there is
nothing to plan or to share. So the work comes first, by the workers' rules, and one statement
stores the job with all decisions, unless another transaction interfered.
"""

import time
import uuid
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from db import address_lists, immediate_opt_outs, jobs
from db.chunks import ClaimedChunk
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobTotals, JobToWork
from engine.chunk_log import log_processed
from engine.chunk_reader import initial_status, sibling_link_limit
from engine.chunk_runner import ChunkFailed, ChunkResult, ChunkRunner
from producers.recipient_events import event_key
from producers.submit import (
    ValidatedRequest,
    add_unknown_count,
    log_submitted,
    require_account,
    require_same_request,
    submit,
    validate_request,
)
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
"""How often it is begun before the job is left to the workers."""

_ONLY_CHUNK = 1

_NOT_STORED = -1
"""No job has this id, and so no address has its status by it."""

_TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
"""What another transaction did to this one, so that it may go well the next time."""


class OptOutReceipt(NamedTuple):
    """The job that stands for the request.

    `created` is False when an earlier request with the same key made it. `applied` tells that the
    job is completed, and committed (an id of no contact is rejected in its results); where it is
    False, workers will begin with it before all other work. `propagated` is to how many addresses
    it was propagated; None where an earlier request did it, or it is still to be done.
    """

    job_id: int
    created: bool
    applied: bool
    propagated: int | None = None


class AddressOptOut(NamedTuple):
    """What became of the opt-out of a single address.

    `status` is what the address was right after it; None where it was not applied by this request.
    """

    receipt: OptOutReceipt
    status: Status | None = None


class _AppliedJob(NamedTuple):
    """A job of this request, and the addresses that it selects as it has left them."""

    job: JobToWork
    done: ChunkResult
    seconds: float
    statuses: list[Status]

    @property
    def totals(self) -> JobTotals:
        """The job's, which are those of its only chunk."""
        counts = self.done.counts
        return JobTotals(
            selected=counts.applied + counts.unchanged + counts.rejected + counts.empty,
            applied=counts.applied,
            unchanged=counts.unchanged,
            rejected=counts.rejected,
            empty=counts.empty,
            propagated=counts.propagated,
            seconds=self.seconds,
        )


class _NotAppliedError(Exception):
    """The opt-out cannot be applied immediately; `__cause__` is the error. Nothing of it
    is stored.
    """


async def opt_out_address_immediately(
    pool: asyncpg.Pool,
    settings: Settings,
    request: JobRequest,
    *,
    account_id: int | None = None,
    actor: Actor = PYTHON,
) -> AddressOptOut:
    """`opt_out_immediately` for a request that lists one address, which tells the status of that
    too.
    """
    acknowledged, applied = await _opt_out(pool, settings, request, account_id, actor)
    return AddressOptOut(acknowledged, *(applied.statuses if applied else ()))


async def opt_out_immediately(
    pool: asyncpg.Pool,
    settings: Settings,
    request: JobRequest,
    *,
    account_id: int | None = None,
    actor: Actor = PYTHON,
) -> OptOutReceipt:
    """Apply an opt-out of a few listed contacts or addresses, and answer when it is committed.

    The request is that of `submit`, for an urgent action that spreads, over at most `chunk_size`
    contacts named by their ids, or as many addresses; one that the account does not know is stored
    as opted out. When the work itself fails, the job is stored for the workers, as
    `submit` does it: an opt-out is never lost. `account_id` is that of the request's account, for a
    caller who has looked it up.

    Raises InvalidRequest (NotFound among them) if the request cannot be carried out, and
    IdempotencyConflict if its key stands for another request; nothing is stored then. If the
    connection is lost (`db.errors.CONNECTION_ERRORS`), all of it is stored or nothing, and
    repeating it with the same key is safe.
    """
    acknowledged, _ = await _opt_out(pool, settings, request, account_id, actor)
    return acknowledged


async def _opt_out(
    pool: asyncpg.Pool,
    settings: Settings,
    request: JobRequest,
    account_id: int | None,
    actor: Actor,
) -> tuple[OptOutReceipt, _AppliedJob | None]:
    began = time.perf_counter()
    checked = validate_request(request)
    _require_short_list(settings, request, checked)
    correlation_id = request.correlation_id or uuid.uuid4().hex
    try:
        async with pool.acquire() as connection:
            if account_id is None:
                account_id = await require_account(connection, request.account)
            attempt = _Attempt(
                connection, settings, request, checked, account_id, correlation_id, actor, began
            )
            applied = await attempt.apply_with_retries()
            if applied is None:
                earlier = await _find_earlier_job(connection, account_id, request, checked)
                if not earlier.is_incomplete:
                    return earlier_receipt(earlier), None
    except _NotAppliedError as failed:
        # Out here, since the pool may have no second connection to give.
        submitted = await submit(
            pool,
            settings,
            request.model_copy(update={"correlation_id": correlation_id}),
            is_verbatim=True,
            actor=actor,
        )
        with logs.bind_context(correlation_id=correlation_id):
            log.warning(
                events.OPT_OUT_DEFERRED,
                job=submitted.job_id,
                account=submitted.account_id,
                action=request.action,
                error=type(failed.__cause__).__name__,
            )
        return OptOutReceipt(submitted.job_id, submitted.created, applied=False), None
    if applied is None:
        # Its job ended without being done, and whoever opted out tells it again.
        return await _opt_out(pool, settings, repeat_request(request, earlier), account_id, actor)
    _log_applied(applied, request, checked, actor, worker=attempt.worker)
    return OptOutReceipt(
        applied.job.id, created=True, applied=True, propagated=applied.done.counts.propagated
    ), applied


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
    if listed is None or not by_list or later:
        raise InvalidRequest(
            "An immediate opt-out takes only a list of contact ids or addresses, and neither a plan"
            " nor a completion_url. Nothing was stored. Submit a bulk job for anything else."
        )
    if not listed:
        raise InvalidRequest(
            "An immediate opt-out needs at least one contact or address. Nothing was stored. Give"
            " the id or the address of the person who opted out."
        )
    if len(listed) > settings.chunk_size:
        raise InvalidRequest(
            f"An immediate opt-out takes {settings.chunk_size:,} contacts or addresses at most"
            f" (CHUNK_SIZE), and {len(listed):,} were given. Nothing was stored. Submit it as a"
            " bulk job."
        )


class _Attempt(NamedTuple):
    """What is done to apply it, on a connection of its own."""

    connection: asyncpg.Connection
    settings: Settings
    request: JobRequest
    checked: ValidatedRequest
    account_id: int
    correlation_id: str
    actor: Actor
    began: float

    @property
    def worker(self) -> str:
        return process_name(self.settings)

    async def apply_with_retries(self) -> _AppliedJob | None:
        """Begin again while others are in the way; None when the request has a job already.

        Raises _NotAppliedError when the work fails, or others are in the way for too long.
        """
        in_the_way: BaseException | None = None
        for _ in range(MAX_TRIES):
            try:
                if in_the_way is None:
                    # Nearly always nobody else is there. What is read is still so when it is
                    # written, or nothing is written; so it takes neither locks nor a transaction.
                    return await self._apply(lock_all=False)
                async with self.connection.transaction():
                    await immediate_opt_outs.set_idle_timeout(self.connection)
                    return await self._apply(lock_all=True)
            except (StaleRead, ConcurrentLink) as error:
                in_the_way = error
            except Exception as raised:  # noqa: BLE001 - only what is passing is tried again
                in_the_way = _transient_or_raise(raised)
        raise _NotAppliedError from in_the_way

    async def _apply(self, *, lock_all: bool) -> _AppliedJob | None:
        began = time.perf_counter()
        request, checked = self.request, self.checked
        action, params = checked.action, checked.action.params.model_validate(checked.params)
        limit = self.settings.shared_address_limit
        listed = None
        if checked.addresses:
            listed = await address_lists.look_up_addresses(
                self.connection,
                account_id=self.account_id,
                identities=checked.addresses,
                shared_address_limit=sibling_link_limit(action, params, limit),
            )
        runner = ChunkRunner(
            job=self._job(),
            action=action,
            params=params,
            shared_address_limit=limit,
            worker=self.worker,
        )
        items = listed.item_ids if listed else checked.contacts or []
        chunk = ClaimedChunk(_ONLY_CHUNK, items, attempts=0)
        decided = await runner.decide(self.connection, chunk, lock_all=lock_all, lookup=listed)
        now = time.perf_counter()
        duration_ms = round((now - began) * 1000)
        written = await immediate_opt_outs.insert_completed_job(
            self.connection,
            account_id=self.account_id,
            action=action.name,
            fields=request.field_numbers,
            params=checked.params,
            selection=add_unknown_count(checked.selection, listed and len(listed.new.ids)),
            requested_by=request.requested_by,
            idempotency_key=request.idempotency_key,
            request_hash=checked.request_hash,
            correlation_id=self.correlation_id,
            actor=self.actor,
            chunk=chunk,
            received_at=decided.snapshot.decided_at - timedelta(seconds=now - self.began),
            decided_at=decided.snapshot.decided_at,
            rows=decided.rows,
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
            runner.job._replace(id=written.job_id), done, written.seconds, decided.statuses()
        )

    def _job(self) -> JobToWork:
        """Describe the job for the decisions, which do not use the id that it does not have yet."""
        return JobToWork(
            id=_NOT_STORED,
            account_id=self.account_id,
            action=self.checked.action.name,
            state="running",
            fields=self.request.field_numbers,
            params=self.checked.params,
            correlation_id=self.correlation_id,
            planned_at=None,
            started_at=None,
        )


def _transient_or_raise(raised: Exception) -> BaseException:
    """Return the transient error behind a failed transaction.

    Raises _NotAppliedError if the work itself is at fault, otherwise the driver's error.
    """
    error: BaseException = raised
    if isinstance(raised, ChunkFailed) and raised.__cause__ is not None:
        error = raised.__cause__
    if isinstance(error, _TRANSIENT_ERRORS):
        return error
    if isinstance(error, TRANSIENT_ERRORS):
        raise error from None
    raise _NotAppliedError from error


async def _find_earlier_job(
    connection: asyncpg.Connection, account_id: int, request: JobRequest, checked: ValidatedRequest
) -> jobs.InsertedJob:
    """Return the job of an earlier request with the same key; raises NotFound without an
    account.
    """
    assert request.idempotency_key is not None
    stored = await jobs.get_job_by_key(connection, account_id, request.idempotency_key)
    require_same_request(stored, request, checked)
    return stored


def repeat_request(request: JobRequest, earlier: jobs.InsertedJob) -> JobRequest:
    """Return the request for what the earlier job with its key has left undone."""
    key = event_key("again", earlier.job_id, event_id=request.idempotency_key or "")
    return request.model_copy(update={"idempotency_key": key})


def earlier_receipt(earlier: jobs.InsertedJob) -> OptOutReceipt:
    """Return what there is to tell of an opt-out that has a job."""
    return OptOutReceipt(earlier.job_id, created=False, applied=earlier.state == JobState.COMPLETED)


def _log_applied(
    applied: _AppliedJob,
    request: JobRequest,
    checked: ValidatedRequest,
    actor: Actor,
    *,
    worker: str,
) -> None:
    job = applied.job
    log_submitted(
        job.id, job.account_id, checked, request, correlation_id=job.correlation_id, actor=actor
    )
    with logs.bind_context(correlation_id=job.correlation_id):
        log_processed(job, applied.done, attempt=1, worker=worker)
        log.info(
            events.JOB_COMPLETED,
            job=job.id,
            account=job.account_id,
            action=job.action,
            **applied.totals._asdict(),
        )
