"""The one way in for contacts: a file becomes an import job, wholly or not at all."""

import asyncio
import codecs
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple, TypeVar

import asyncpg
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from actions.import_contacts import ImportContacts, ImportParams
from db import imports, jobs
from db.imports import StagedFile
from producers.import_file import ContactFile, open_contacts
from producers.import_rejections import MAX_TAG
from producers.invalid_request import convert_validation_error, require_storable
from producers.request_hash import request_hash
from producers.submit import require_account
from runtime import events, logs
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.errors import IdempotencyConflict
from schemas.requests import FIELD_NUMBERS, ShortText
from schemas.staging import CELL_REJECTION_REASONS
from workers.enqueue import enqueue_job

log = logs.get_logger()
T = TypeVar("T")

_SELECTION = {"import": True}

Progress = Callable[[int, int, int], None]
"""Told, as the file streams in: bytes read, contacts staged, rows refused."""


class ImportSubmission(NamedTuple):
    """The job that stands for the file.

    Of its rows, `rows` were staged as contacts and `rejected_rows` were not; `rejected_cells`
    single cells were refused besides. `ignored_columns` were not read. `created` is False when an
    earlier request with the same key made the job. `enqueued` is False when Redis did not answer;
    the sweeper will find the job.
    """

    job_id: int
    rows: int
    rejected_rows: int
    rejected_cells: int
    created: bool
    enqueued: bool
    ignored_columns: tuple[str, ...] = ()


class _Request(BaseModel):
    """What is asked for, but for the file."""

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
        """Return the parameters that the job stores, among them who claims the permission."""
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
    """Read a contact CSV into a job, in one transaction, and enqueue it.

    The job stores the `actor` besides `requested_by`. `permission` is the importer's claim, on
    record under `requested_by`, that these contacts agreed to broadcasts. `tag` goes to each
    contact. `mapping` and `encoding` are as in `open_contacts`. The same key with the same file
    gives the same job.

    Raises InvalidRequest (NotFound among them) for what cannot be imported, and IdempotencyConflict
    if the key stands for another request. Nothing is stored then, nor if anything else fails.
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
        hash_of = _RequestHash(request, mapping or {}, encoding, contacts)
        async with pool.acquire() as connection:
            account_id = await require_account(connection, request.account)
            async with connection.transaction():
                params = request.params(statuses=contacts.has_statuses)
                stored = await _insert_job(connection, account_id, request, params, actor)
                if not stored.created:
                    await _require_same_request(stored, request, hash_of)
                    counts = await imports.read_staged_file(connection, account_id, stored.job_id)
                    return ImportSubmission(
                        stored.job_id,
                        *counts,
                        created=False,
                        enqueued=True,
                        ignored_columns=contacts.ignored_columns,
                    )
                counts = await _stage(connection, account_id, stored.job_id, contacts, progress)
                await imports.set_request_hash(
                    connection,
                    account_id=account_id,
                    job_id=stored.job_id,
                    request_hash=hash_of(),
                )
    _log_submitted(stored.job_id, account_id, request, actor)
    enqueued = await enqueue_job(
        settings, account_id=account_id, job_id=stored.job_id, action=ImportContacts.name
    )
    return ImportSubmission(
        stored.job_id,
        *counts,
        created=True,
        enqueued=enqueued,
        ignored_columns=contacts.ignored_columns,
    )


def _validate(**given: Any) -> _Request:
    require_storable("The import", given)
    try:
        return _Request.model_validate(given)
    except ValidationError as error:
        raise convert_validation_error("The import", error, _Request) from None


class _RequestHash:
    """The hash of an import's request; it includes the file, so it is known after its end."""

    def __init__(
        self, request: _Request, mapping: Mapping[str, str], encoding: str, contacts: ContactFile
    ) -> None:
        self.contacts = contacts
        self._request = request
        self._reading = {"mapping": dict(mapping), "encoding": codecs.lookup(encoding).name}

    def __call__(self) -> str:
        return request_hash(
            account=self._request.account,
            action=ImportContacts.name,
            selection={**_SELECTION, **self._reading, "file": self.contacts.digest()},
            contacts=None,
            fields=list(FIELD_NUMBERS),
            params=self._request.model_dump(include={"permission", "tag"}),
            evidence=None,
        )


async def _insert_job(
    connection: asyncpg.Connection,
    account_id: int,
    request: _Request,
    params: dict[str, Any],
    actor: Actor,
) -> jobs.InsertedJob:
    """Insert the job before its rows, which refer to it.

    A second request with the same idempotency key waits for this one.
    """
    return await jobs.insert_job(
        connection,
        account_id=account_id,
        action=ImportContacts.name,
        fields=list(FIELD_NUMBERS.values()),
        params=params,
        evidence=None,
        selection=_SELECTION,
        requested_by=request.requested_by,
        idempotency_key=request.idempotency_key,
        request_hash="",
        correlation_id=request.correlation_id or "",
        actor=actor,
    )


async def _require_same_request(
    stored: jobs.InsertedJob, request: _Request, hash_of: _RequestHash
) -> None:
    await asyncio.to_thread(hash_of.contacts.drain)
    if stored.request_hash != hash_of():
        raise IdempotencyConflict(
            f"The key {request.idempotency_key!r} was used before, for job {stored.job_id}, and"
            " that was for another file or asked for something else. Nothing was stored. Use a new"
            f" key for a new import; `sluice job {stored.job_id}` shows the earlier one."
        )


async def _stage(
    connection: asyncpg.Connection,
    account_id: int,
    job_id: int,
    contacts: ContactFile,
    progress: Progress | None,
) -> StagedFile:
    rows = refused = left_out = 0
    blocks = (
        (imports.pack_rows(account_id, job_id, each.rows), each.rejections)
        for each in contacts.blocks()
    )
    async with aclosing(_prefetch(blocks)) as packed_blocks:
        async for packed, rejections in packed_blocks:
            await imports.stage_rows(connection, packed)
            if rejections:
                await imports.insert_import_rejections(
                    connection, account_id=account_id, job_id=job_id, rejections=rejections
                )
            cells = sum(rejection.reason in CELL_REJECTION_REASONS for rejection in rejections)
            rows += packed.rows
            refused += len(rejections) - cells
            left_out += cells
            if progress:
                progress(contacts.bytes_read, rows, refused)
    return StagedFile(rows, refused, left_out)


async def _prefetch(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield the items; while one of them is dealt with, the next is made.

    In a thread, so that whatever else shares the event loop goes on.
    """

    def make() -> asyncio.Task[T | None]:
        return asyncio.create_task(asyncio.to_thread(next, items, None))

    making = make()
    try:
        while (item := await making) is not None:
            making = make()
            yield item
    finally:
        # The caller closes the file next, and no thread may be reading it by then.
        await asyncio.gather(making, return_exceptions=True)


def _log_submitted(job_id: int, account_id: int, request: _Request, actor: Actor) -> None:
    log.info(
        events.JOB_SUBMITTED,
        job=job_id,
        account=account_id,
        action=ImportContacts.name,
        correlation_id=request.correlation_id,
        **actor.log_keys(),
        fields=list(FIELD_NUMBERS),
        selected_by=sorted(_SELECTION),
        contacts_listed=None,
    )
