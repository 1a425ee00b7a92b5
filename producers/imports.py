"""Import contacts: a file becomes a job, as a whole or not at all."""

import asyncio
import codecs
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import asyncpg

from actions.import_contacts import ImportContacts
from db import imports
from db.imports import StagedFile
from producers.accounts import require_account
from producers.import_file import ContactFile, open_contacts
from producers.invalid_request import parse_request, require_storable_texts
from producers.request_hash import hash_request
from producers.request_validation import ValidatedRequest, validate_params
from producers.submit import (
    log_and_enqueue,
    require_same_request,
    store_job,
    with_correlation_id,
)
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.job_key import JobKey
from schemas.requests import FIELD_NUMBERS, JobRequest
from schemas.staging import CELL_REJECTION_REASONS

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

    With `permission`, `requested_by` states that these contacts agreed to broadcasts. Each contact
    gets the `tag`. `mapping` and `encoding` are as in `open_contacts`. The same key and file return
    the same job. Raises InvalidRequest, NotFound, IdempotencyConflict. A failure stores nothing.
    """
    request = _validate(
        permission=permission,
        tag=tag,
        account=account,
        requested_by=requested_by,
        idempotency_key=idempotency_key,
        correlation_id=correlation_id,
    )
    with open_contacts(file, mapping=mapping, encoding=encoding) as contacts:
        stated = {"statuses": True} if contacts.columns.statuses else {}
        checked = ValidatedRequest(ImportContacts(), request.params | stated, _SELECTION)
        hash_of = partial(_hash_import, request, mapping or {}, encoding, contacts)
        async with pool.acquire() as connection:
            account_id = await require_account(connection, request.account)
            async with connection.transaction():
                # Its rows refer to the job; a request with the same key waits for it.
                stored = await store_job(connection, account_id, request, checked, actor)
                if stored.created:
                    counts = await _stage(connection, stored.key, contacts, progress)
                    await imports.set_request_hash(connection, stored.key, request_hash=hash_of())
                else:
                    await asyncio.to_thread(contacts.text.drain)
                    require_same_request(stored, request, hash_of())
                    counts = await imports.read_staged_file(connection, stored.key)
    enqueued = await log_and_enqueue(settings, stored, request, checked, actor)
    return ImportSubmission(
        stored.key.job_id, *counts, stored.created, enqueued, contacts.columns.ignored
    )


def _validate(*, permission: bool, tag: str | None, **given: str | None) -> JobRequest:
    """Return the request with the params of the job.

    If permission is claimed, the params also store who claims it.
    """
    action = ImportContacts()
    request = parse_request(
        {
            **given,
            "action": action.name,
            "selection": {"all": True},
            "fields": tuple(FIELD_NUMBERS),
            "params": {"permission": permission, "tag": tag},
        }
    )
    require_storable_texts("The import", request)
    params = validate_params(action, request.params)
    if params["permission"]:
        params["permission_claimed_by"] = request.requested_by
    return with_correlation_id(request.model_copy(update={"params": params}))


def _hash_import(
    request: JobRequest, mapping: Mapping[str, str], encoding: str, contacts: ContactFile
) -> str:
    """Return the hash of the request and the whole file, which must have been read."""
    selection = {
        **_SELECTION,
        "mapping": dict(mapping),
        "encoding": codecs.lookup(encoding).name,
        "file": contacts.text.digest(),
        "contacts": None,
    }
    params = {name: request.params.get(name) for name in ("permission", "tag")}
    return hash_request(request, selection=selection, params=params)


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
