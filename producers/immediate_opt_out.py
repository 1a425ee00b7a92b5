"""The way in for a recipient's own opt-out: applied, and committed, before it is answered.

A bulk job is stored first and worked later. For one person who clicks "unsubscribe" there is
nothing to plan and nothing to share, so it is worked first, by the rules that workers use, and one
statement stores the job with all that was decided, if nobody has come between.
"""

import time
import uuid
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from db import address_lists, immediate_opt_outs, jobs
from db.chunks import ClaimedChunk
from db.errors import NOT_THE_WORKS_FAULT
from db.progress import JobTotals, JobToWork
from engine.chunk_log import log_processed
from engine.chunk_reader import first_status, neighbours_up_to
from engine.chunk_runner import ChunkDone, ChunkFailed, ChunkRunner
from producers.recipient_events import event_key
from producers.submit import (
    Checked,
    check,
    log_submitted,
    no_account,
    require_account,
    require_same_request,
    submit,
    with_unknown,
)
from runtime import events, logs
from runtime.process import process_name
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.errors import LinksChanged, NotFound, NotLocked, WrongInput
from schemas.outcomes import JobState
from schemas.requests import JobRequest
from schemas.statuses import Status

log = logs.get()

TRIES = 10
"""How often it is begun before the job is left to the workers."""

_ONLY_CHUNK = 1

_NOT_STORED = -1
"""No job has this id, and so no address has its status by it."""

_PASSING: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
"""What another transaction did to this one, so that it may go well the next time."""


class Acknowledged(NamedTuple):
    """The job that stands for the request.

    `created` is False when an earlier request with the same key made it. `applied` tells that the
    job is completed, and committed (an id of no contact is rejected in its results); where it is
    False, workers will begin with it before all other work. `reached` is how many further addresses
    it spread to; None where an earlier request did it, or it is still to be done.
    """

    job_id: int
    created: bool
    applied: bool
    reached: int | None = None


class OptedOut(NamedTuple):
    """What became of the opt-out of a single address.

    `status` is what the address was right after it; None where it was not applied by this request.
    """

    acknowledged: Acknowledged
    status: Status | None = None


class _Applied(NamedTuple):
    """A job of this request, and the addresses that it selects as it has left them."""

    job: JobToWork
    done: ChunkDone
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


class _CannotNow(Exception):
    """The opt-out cannot be applied at once; `__cause__` is the error. Nothing of it is stored."""


async def opt_out_address(
    pool: asyncpg.Pool, settings: Settings, request: JobRequest, *, actor: Actor = PYTHON
) -> OptedOut:
    """`opt_out_now` for a request that lists one address, which tells the status of that too."""
    acknowledged, applied = await _opt_out(pool, settings, request, actor)
    return OptedOut(acknowledged, *(applied.statuses if applied else ()))


async def opt_out_now(
    pool: asyncpg.Pool, settings: Settings, request: JobRequest, *, actor: Actor = PYTHON
) -> Acknowledged:
    """Apply an opt-out of a few listed contacts or addresses, and answer when it is committed.

    The request is that of `submit`, for an urgent action that spreads, over at most `chunk_size`
    contacts named by their ids, or as many addresses; one that the account does not know is stored
    as opted out. When the work itself fails, the job is stored for the workers, as
    `submit` does it: an opt-out is never lost.

    Raises WrongInput (NotFound among them) when the request cannot be carried out, and
    IdempotencyConflict when its key stands for another request; nothing is stored then. When the
    connection is lost on the way (`db.errors.UNREACHABLE` among others), all of it is stored or
    nothing, and the same key is safe.
    """
    acknowledged, _ = await _opt_out(pool, settings, request, actor)
    return acknowledged


async def _opt_out(
    pool: asyncpg.Pool, settings: Settings, request: JobRequest, actor: Actor
) -> tuple[Acknowledged, _Applied | None]:
    began = time.perf_counter()
    checked = check(request)
    _require_short_list(settings, request, checked)
    correlation_id = request.correlation_id or uuid.uuid4().hex
    try:
        async with pool.acquire() as connection:
            attempt = _Attempt(connection, settings, request, checked, correlation_id, actor, began)
            applied = await attempt.until_it_goes_through()
            if applied is None:
                earlier = await _earlier(connection, request, checked)
                if not earlier.is_undone:
                    return acknowledged(earlier), None
    except _CannotNow as failed:
        # Out here, since the pool may have no second connection to give.
        submitted = await submit(
            pool,
            settings,
            request.model_copy(update={"correlation_id": correlation_id}),
            as_written=True,
            actor=actor,
        )
        with logs.bound(correlation_id=correlation_id):
            log.warning(
                events.OPT_OUT_DEFERRED,
                job=submitted.job_id,
                account=submitted.account_id,
                action=request.action,
                error=type(failed.__cause__).__name__,
            )
        return Acknowledged(submitted.job_id, submitted.created, applied=False), None
    if applied is None:
        # Its job ended without being done, and whoever opted out tells it again.
        return await _opt_out(pool, settings, asked_again(request, earlier), actor)
    _log(applied, request, checked, actor, worker=attempt.worker)
    return Acknowledged(
        applied.job.id, created=True, applied=True, reached=applied.done.counts.propagated
    ), applied


def _require_short_list(settings: Settings, request: JobRequest, checked: Checked) -> None:
    action = checked.action
    if not (action.urgent and action.may_spread):
        raise WrongInput(
            f"The action {action.name!r} is not an opt-out and cannot be applied immediately."
            " Nothing was stored. Submit it as a bulk job."
        )
    selection = request.selection
    listed = checked.contacts if checked.addresses is None else checked.addresses
    by_list = selection.conditions <= {"contacts", "addresses"}
    later = request.plan_first or request.completion_url is not None
    if listed is None or not by_list or later:
        raise WrongInput(
            "An immediate opt-out takes only a list of contact ids or addresses, and neither a plan"
            " nor a completion_url. Nothing was stored. Submit a bulk job for anything else."
        )
    if not listed:
        raise WrongInput(
            "An immediate opt-out needs at least one contact or address. Nothing was stored. Give"
            " the id or the address of the person who opted out."
        )
    if len(listed) > settings.chunk_size:
        raise WrongInput(
            f"An immediate opt-out takes {settings.chunk_size:,} contacts or addresses at most"
            f" (CHUNK_SIZE), and {len(listed):,} were given. Nothing was stored. Submit it as a"
            " bulk job."
        )


class _Attempt(NamedTuple):
    """What is done to apply it, on a connection of its own."""

    connection: asyncpg.Connection
    settings: Settings
    request: JobRequest
    checked: Checked
    correlation_id: str
    actor: Actor
    began: float

    @property
    def worker(self) -> str:
        return process_name(self.settings)

    async def until_it_goes_through(self) -> _Applied | None:
        """Begin again while others are in the way; None when the request has a job already.

        Raises _CannotNow when the work fails, or others are in the way for too long, and NotFound
        without an account.
        """
        in_the_way: BaseException | None = None
        for _ in range(TRIES):
            try:
                if in_the_way is None:
                    # Nearly always nobody else is there. What is read is still so when it is
                    # written, or nothing is written; so it takes neither locks nor a transaction.
                    return await self._apply(lock_all=False)
                async with self.connection.transaction():
                    await immediate_opt_outs.limit_idling(self.connection)
                    return await self._apply(lock_all=True)
            except (NotLocked, LinksChanged) as error:
                in_the_way = error
            except NotFound:
                raise
            except Exception as raised:  # noqa: BLE001 - only what is passing is tried again
                in_the_way = _passing_or_raise(raised)
        raise _CannotNow from in_the_way

    async def _apply(self, *, lock_all: bool) -> _Applied | None:
        began = time.perf_counter()
        request, checked = self.request, self.checked
        action, params = checked.action, checked.action.params.model_validate(checked.params)
        limit = self.settings.shared_address_limit
        found = await address_lists.find(
            self.connection,
            account=request.account,
            identities=checked.addresses or (),
            shared_address_limit=neighbours_up_to(action, params, limit),
        )
        if found is None:
            raise await no_account(self.connection, request.account)
        runner = ChunkRunner(
            job=self._job(found.account_id),
            action=action,
            params=params,
            shared_address_limit=limit,
            worker=self.worker,
        )
        listed = found if checked.addresses else None
        rows = listed.row_ids if listed else checked.contacts or []
        chunk = ClaimedChunk(_ONLY_CHUNK, rows, attempts=0)
        decided = await runner.decide(self.connection, chunk, lock_all=lock_all, found=listed)
        now = time.perf_counter()
        duration_ms = round((now - began) * 1000)
        written = await immediate_opt_outs.write(
            self.connection,
            account_id=found.account_id,
            action=action.name,
            fields=request.field_numbers,
            params=checked.params,
            selection=with_unknown(checked.selection, listed and len(listed.new.ids)),
            requested_by=request.requested_by,
            idempotency_key=request.idempotency_key,
            request_hash=checked.request_hash,
            correlation_id=self.correlation_id,
            actor=self.actor,
            chunk=chunk,
            received_at=decided.gathered.decided_at - timedelta(seconds=now - self.began),
            decided_at=decided.gathered.decided_at,
            rows=decided.rows,
            new=listed and listed.new,
            new_status=first_status(action, params),
            changes=decided.changes,
            versions=decided.gathered.versions,
            counts=decided.counts,
            worker=runner.worker,
            duration_ms=duration_ms,
        )
        if written is None:
            return None
        done = ChunkDone(chunk.chunk_no, decided.counts, chunk.attempts, duration_ms)
        return _Applied(
            runner.job._replace(id=written.job_id), done, written.seconds, decided.statuses()
        )

    def _job(self, account_id: int) -> JobToWork:
        """The job as the decisions see it, which have no use for the id that it does not have."""
        return JobToWork(
            id=_NOT_STORED,
            account_id=account_id,
            action=self.checked.action.name,
            state="running",
            fields=self.request.field_numbers,
            params=self.checked.params,
            correlation_id=self.correlation_id,
            planned_at=None,
            started_at=None,
        )


def _passing_or_raise(raised: Exception) -> BaseException:
    """What kept the transaction from going through, if it may go well the next time.

    Raises _CannotNow where the work is at fault, and otherwise what the driver has raised.
    """
    error: BaseException = raised
    if isinstance(raised, ChunkFailed) and raised.__cause__ is not None:
        error = raised.__cause__
    if isinstance(error, _PASSING):
        return error
    if isinstance(error, NOT_THE_WORKS_FAULT):
        raise error from None
    raise _CannotNow from error


async def _earlier(
    connection: asyncpg.Connection, request: JobRequest, checked: Checked
) -> jobs.Stored:
    """The job that an earlier request with the same key made; raises NotFound without account."""
    account_id = await require_account(connection, request.account)
    assert request.idempotency_key is not None
    stored = await jobs.job_of_key(connection, account_id, request.idempotency_key)
    require_same_request(stored, request, checked)
    return stored


def asked_again(request: JobRequest, earlier: jobs.Stored) -> JobRequest:
    """Return the request for what the earlier job with its key has left undone."""
    key = event_key("again", earlier.job_id, event_id=request.idempotency_key or "")
    return request.model_copy(update={"idempotency_key": key})


def acknowledged(earlier: jobs.Stored) -> Acknowledged:
    """Return what there is to tell of an opt-out that has a job."""
    return Acknowledged(earlier.job_id, created=False, applied=earlier.state == JobState.COMPLETED)


def _log(
    applied: _Applied, request: JobRequest, checked: Checked, actor: Actor, *, worker: str
) -> None:
    job = applied.job
    log_submitted(
        job.id, job.account_id, checked, request, correlation_id=job.correlation_id, actor=actor
    )
    with logs.bound(correlation_id=job.correlation_id):
        log_processed(job, applied.done, attempt=1, worker=worker)
        log.info(
            events.JOB_COMPLETED,
            job=job.id,
            account=job.account_id,
            action=job.action,
            **applied.totals._asdict(),
        )
