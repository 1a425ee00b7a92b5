"""Import contacts: a file becomes a job, as a whole or not at all."""

import asyncio
import codecs
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple, TypeVar

import asyncpg
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from actions.import_contacts import ImportContacts, ImportParams
from db import imports, jobs
from db.imports import StagedFile
from producers.accounts import require_account
from producers.import_file import ContactFile, open_contacts
from producers.import_rejections import MAX_TAG
from producers.invalid_request import convert_validation_error, require_storable
from producers.request_hash import request_hash
from runtime import events, logs
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.errors import IdempotencyConflict
from schemas.job_key import JobKey
from schemas.requests import FIELD_NUMBERS, ShortText
from schemas.staging import CELL_REJECTION_REASONS
from workers.enqueue import enqueue_job

log = logs.get_logger()
T = TypeVar("T")

_SELECTION = {"import": True}

Progress = Callable[[int, int, int], None]
"""Called while the file is read, with: bytes read, contacts staged, rows rejected."""


class ImportSubmission(NamedTuple):
    """The job of a file.

    `rows` were staged as contacts and `rejected_rows` were not; `rejected_cells` are single cells
    that were left out. `ignored_columns` were not read. `created` is False if an earlier request
    with the same key created the job. `enqueued` is False if Redis did not respond; the sweeper
    will find the job.
    """

    job_id: int
    rows: int
    rejected_rows: int
    rejected_cells: int
    created: bool
    enqueued: bool
    ignored_columns: tuple[str, ...] = ()


class _Request(BaseModel):
    """The request without its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: ShortText
    permission: bool
    tag: (
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TAG)]
        | None
    )
    requested_by: ShortText
    idempotency_key: ShortText | None
    correlation_id: ShortText | None

    def params(self, *, statuses: bool) -> dict[str, Any]:
        """Return the params of the job; a claim of permission names its claimant."""
        return ImportParams(
            permission=self.permission,
            permission_claimed_by=self.requested_by if self.permission else None,
            tag=self.tag,
            statuses=statuses or None,
        ).model_dump(mode="json", exclude_none=True)


async def submit_import(
    pool: asyncpg.Pool,
    settings: Settings,
    *,
    file: str | Path | BinaryIO,
    permission: bool,
    requested_by: str,
    account: str = "default",
    tag: str | None = None,
    mapping: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    idempotency_key: str | None = None,
    correlation_id: str | None = None,
    progress: Progress | None = None,
    actor: Actor = PYTHON,
) -> ImportSubmission:
    """Read a contact CSV into a job of the `actor`, in one transaction, and enqueue it.

    `permission` is the claim of `requested_by`, kept with the job, that these contacts agreed to
    broadcasts. Each contact gets the `tag`. `mapping` and `encoding` are as in `open_contacts`. The
    same key with the same file returns the same job. Raises InvalidRequest (also NotFound) and
    IdempotencyConflict; then, and after any other failure, nothing is stored.
    """
    request = _validate(
        account=account,
        permission=permission,
        tag=tag,
        requested_by=requested_by,
        idempotency_key=idempotency_key,
        correlation_id=correlation_id or uuid.uuid4().hex,
    )
    with open_contacts(file, mapping=mapping, encoding=encoding) as contacts:
        hash_of = partial(_request_hash, request, mapping or {}, encoding, contacts)
        async with pool.acquire() as connection:
            account_id = await require_account(connection, request.account)
            async with connection.transaction():
                stored = await _insert_job(connection, account_id, request, contacts, actor)
                key, created = stored.key, stored.created
                if created:
                    counts = await _stage(connection, key, contacts, progress)
                    hash_ = hash_of()
                    await imports.set_request_hash(connection, key, request_hash=hash_)
                else:
                    await asyncio.to_thread(contacts.text.drain)
                    _require_same_request(stored, request, hash_of())
                    counts = await imports.read_staged_file(connection, key)
    if created:
        _log_submitted(key, request, actor)
    enqueued = not created or await enqueue_job(settings, key, action=ImportContacts.name)
    return ImportSubmission(key.job_id, *counts, created, enqueued, contacts.columns.ignored)


def _validate(**given: Any) -> _Request:
    require_storable("The import", given)
    try:
        return _Request.model_validate(given)
    except ValidationError as error:
        raise convert_validation_error("The import", error, _Request) from None


def _request_hash(
    request: _Request, mapping: Mapping[str, str], encoding: str, contacts: ContactFile
) -> str:
    """Return the hash of the request and the whole file, which must have been read."""
    selection = {
        **_SELECTION,
        "mapping": dict(mapping),
        "encoding": codecs.lookup(encoding).name,
        "file": contacts.text.digest(),
    }
    return request_hash(
        account=request.account,
        action=ImportContacts.name,
        selection=selection,
        contacts=None,
        fields=list(FIELD_NUMBERS),
        params=request.model_dump(include={"permission", "tag"}),
        evidence=None,
    )


async def _insert_job(
    connection: asyncpg.Connection,
    account_id: int,
    request: _Request,
    contacts: ContactFile,
    actor: Actor,
) -> jobs.InsertedJob:
    """Insert the job before its rows, which refer to it; a request with the same key then waits."""
    job = jobs.NewJob(
        account_id=account_id,
        action=ImportContacts.name,
        fields=list(FIELD_NUMBERS.values()),
        params=request.params(statuses=bool(contacts.columns.statuses)),
        selection=_SELECTION,
        requested_by=request.requested_by,
        idempotency_key=request.idempotency_key,
        request_hash="",
        correlation_id=request.correlation_id or "",
        actor=actor,
    )
    return await jobs.insert_job(connection, job)


def _require_same_request(stored: jobs.InsertedJob, request: _Request, hash_: str) -> None:
    if stored.request_hash != hash_:
        raise IdempotencyConflict(
            f"The key {request.idempotency_key!r} was used for job {stored.key.job_id}, which is of"
            " another file or a different request. Nothing was stored. Use a new key for a new"
            f" import; `sluice job {stored.key.job_id}` shows the earlier one."
        )


async def _stage(
    connection: asyncpg.Connection, job: JobKey, contacts: ContactFile, progress: Progress | None
) -> StagedFile:
    rows = rejected = left_out = 0
    blocks = ((imports.pack_rows(job, each.rows), each.rejections) for each in contacts.blocks())
    async with aclosing(_prefetch(blocks)) as packed_blocks:
        async for packed, rejections in packed_blocks:
            await imports.stage_rows(connection, packed)
            if rejections:
                await imports.insert_import_rejections(connection, job, rejections=rejections)
            cells = sum(rejection.reason in CELL_REJECTION_REASONS for rejection in rejections)
            rows += packed.rows
            rejected += len(rejections) - cells
            left_out += cells
            if progress:
                progress(contacts.text.bytes_read, rows, rejected)
    return StagedFile(rows, rejected, left_out)


async def _prefetch(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield the items, while a thread makes the next one."""

    def make() -> asyncio.Task[T | None]:
        return asyncio.create_task(asyncio.to_thread(next, items, None))

    making = make()
    try:
        while (item := await making) is not None:
            making = make()
            yield item
    finally:
        # The caller closes the file next, so no thread may still be reading it.
        await asyncio.gather(making, return_exceptions=True)


def _log_submitted(key: JobKey, request: _Request, actor: Actor) -> None:
    log.info(
        events.JOB_SUBMITTED,
        job=key.job_id,
        account=key.account_id,
        action=ImportContacts.name,
        correlation_id=request.correlation_id,
        **actor.log_keys(),
        fields=list(FIELD_NUMBERS),
        selected_by=sorted(_SELECTION),
        contacts_listed=None,
    )
