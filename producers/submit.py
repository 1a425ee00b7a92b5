"""Submit a bulk action over existing contacts, for the command line, HTTP and Python.

Everything is checked before anything is stored. A job and its lists are stored together or not at
all.
"""

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import asyncpg

from actions.registry import get_action
from db import address_lists, contacts, jobs, webhook_deliveries
from producers.accounts import require_account
from producers.address_files import DoubtfulAddress
from producers.completion_urls import require_public_url
from producers.fair_executor import run_off_loop
from producers.invalid_request import MAX_FIELD_ERRORS, invalid_request
from producers.plausibility import MAX_INLINE_ADDRESSES, find_doubtful, find_implausible
from producers.request_validation import ValidatedRequest, validate_request
from producers.uploads import Upload
from runtime import events, logs
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.errors import (
    FieldError,
    IdempotencyConflict,
    InvalidRequest,
    MostlyUnknownList,
    NotFound,
    StateConflict,
)
from schemas.job_key import JobKey
from schemas.outcomes import FINAL_STATES
from schemas.requests import JobRequest
from schemas.statuses import RECIPIENT_KINDS
from workers.enqueue import enqueue_job

log = logs.get_logger()

MAX_NAMES = 10
"""How many tags an error suggests in place of an unknown one."""


class JobSubmission(NamedTuple):
    """The job of the request.

    `created` is False if an earlier request with the same key created it. `enqueued` is False if
    Redis did not respond; the job is stored all the same, and the sweeper will find it.
    """

    job_id: int
    account_id: int
    created: bool
    enqueued: bool
    unknown: int | None = None


async def submit(
    pool: asyncpg.Pool,
    settings: Settings,
    request: JobRequest,
    *,
    upload: Upload | None = None,
    allow_mostly_unknown: bool = True,
    is_verbatim: bool = False,
    merged_hashes: Mapping[str, str] | None = None,
    is_large: bool = False,
    actor: Actor = PYTHON,
) -> JobSubmission:
    """Check the request, store it as a job of the `actor`, and enqueue it.

    An `upload` brings the selection's empty list (see `parse_request`) in a file. Without
    `allow_mostly_unknown` it raises MostlyUnknownList if more than half of its addresses are
    unknown. Addresses that are `is_verbatim` are not doubted, because recipients named them.
    `merged_hashes` are the hashes, by key, of the requests that the job merges. An `is_large`
    request is checked off the event loop.

    Raises InvalidRequest (also MissingEvidence and NotFound), StateConflict for a selected import
    that has not ended, and IdempotencyConflict; nothing is stored then. A key makes retries safe.
    """
    is_long = is_large or len(request.selection.addresses or ()) > MAX_INLINE_ADDRESSES
    check = partial(_validate, settings, request, upload, is_verbatim=is_verbatim)
    checked, doubtful = await run_off_loop(request.account, check, is_long=is_long)
    request = with_correlation_id(request)
    async with pool.acquire() as connection:
        account_id = await require_account(connection, request.account)
        await _require_selectable(connection, account_id, request)
        if upload is None:
            checked = await _check_addresses(connection, account_id, checked, doubtful)
        async with connection.transaction():
            if upload is not None:
                listed = await upload.stage(connection, account_id)
                unknown = listed.unknown or 0
                if not allow_mostly_unknown and 2 * unknown > listed.number:
                    raise MostlyUnknownList(unknown, listed.number)
                checked = validate_request(request, listed)
            stored = await store_job(connection, account_id, request, checked, actor)
            if upload is not None and stored.created:
                await upload.keep(connection, stored.key)
            if merged_hashes:
                await jobs.insert_merged_events(connection, stored.key, hashes=merged_hashes)
    require_same_request(stored, request, checked.request_hash)
    enqueued = await log_and_enqueue(settings, stored, request, checked, actor)
    return JobSubmission(stored.key.job_id, account_id, stored.created, enqueued, checked.unknown)


def _validate(
    settings: Settings, request: JobRequest, upload: Upload | None, *, is_verbatim: bool
) -> tuple[ValidatedRequest, list[DoubtfulAddress]]:
    if upload is None and request.selection.awaits_file:
        raise InvalidRequest(
            "The selection lists nothing. Nothing was stored. List contacts or addresses, or give"
            " a file of them."
        )
    checked = validate_request(request)
    require_public_url(settings, request.completion_url)
    return checked, [] if is_verbatim else find_doubtful(checked.addresses or ())


def with_correlation_id(request: JobRequest) -> JobRequest:
    """Return the request with a new correlation id, unless it has one."""
    if request.correlation_id:
        return request
    return request.model_copy(update={"correlation_id": uuid.uuid4().hex})


def require_same_request(stored: jobs.InsertedJob, request: JobRequest, hash_: str) -> None:
    """Raise IdempotencyConflict if the job with the request's key has another hash."""
    if stored.request_hash != hash_:
        raise IdempotencyConflict(
            f"The key {request.idempotency_key!r} was used for job {stored.key.job_id}, which is of"
            " a different request or file. Nothing was stored. Use a new key for a new request;"
            f" `sluice job {stored.key.job_id}` shows the earlier one."
        )


async def _require_selectable(
    connection: asyncpg.Connection, account_id: int, request: JobRequest
) -> None:
    selection = request.selection
    if selection.tag is not None and not await contacts.has_tag(
        connection, account_id, selection.tag
    ):
        names = await contacts.list_tags(connection, account_id, limit=MAX_NAMES)
        hint = f"Some of its tags: {', '.join(names)}." if names else "It has no tags yet."
        raise NotFound(
            f"The account {request.account!r} has no tag {selection.tag!r}. Nothing was stored."
            f" {hint}"
        )
    if (job_id := selection.import_job) is None:
        return
    job = await jobs.get_job(connection, job_id, account_id=account_id)
    if job is None or not get_action(job.action).creates_contacts:
        why = "does not exist" if job is None else f"is not an import but {job.action}"
        raise NotFound(f"Job {job_id} {why}. Nothing was stored. Name an import of the account.")
    if job.state not in FINAL_STATES:
        # The selection is frozen once, and would silently miss the contacts still to come.
        raise StateConflict(
            f"The import {job_id} is {job.state.value}, so not all of its contacts are there yet."
            " Nothing was stored. Submit again when it has completed."
        )


async def store_job(
    connection: asyncpg.Connection,
    account_id: int,
    request: JobRequest,
    checked: ValidatedRequest,
    actor: Actor,
) -> jobs.InsertedJob:
    """Store the job and its lists, in the transaction of the caller."""
    stored = await jobs.insert_job(connection, checked.new_job(account_id, request, actor))
    if not stored.created:
        return stored
    if checked.contacts:
        await jobs.insert_job_contacts(connection, stored.key, checked.contacts)
    if checked.addresses:
        await address_lists.insert_list(connection, stored.key, addresses=checked.addresses)
    if request.completion_url:
        await webhook_deliveries.insert_delivery(connection, stored.key, request.completion_url)
    return stored


async def _check_addresses(
    connection: asyncpg.Connection,
    account_id: int,
    checked: ValidatedRequest,
    doubtful: Sequence[DoubtfulAddress],
) -> ValidatedRequest:
    """Count the listed addresses that the account does not know.

    Raises InvalidRequest for probable misspellings, each at its first place in the request.
    """
    found = await find_implausible(connection, account_id, doubtful)
    if found:
        told = [
            FieldError(f"selection.addresses.{each.line}", str(why))
            for each, why in islice(found.items(), MAX_FIELD_ERRORS)
        ]
        left = len(found) - len(told)
        raise invalid_request("The request", told, f"There are {left:,} more." if left else "")
    if checked.addresses is None:
        return checked
    keys = [each.match_key for each in checked.addresses]
    known = await address_lists.find_known_keys(connection, account_id, keys)
    return checked._replace(unknown=len(keys) - len(known))


async def log_and_enqueue(
    settings: Settings,
    stored: jobs.InsertedJob,
    request: JobRequest,
    checked: ValidatedRequest,
    actor: Actor,
) -> bool:
    """Log and enqueue the job, if it is new; return False if Redis did not respond."""
    if not stored.created:
        return True
    log_submitted(stored.key, checked, request, actor)
    return await enqueue_job(settings, stored.key, action=request.action)


def log_submitted(
    job: JobKey, checked: ValidatedRequest, request: JobRequest, actor: Actor
) -> None:
    """Log that the job was stored, and that a recipient opted out, if the job says so."""
    facts = {
        "job": job.job_id,
        "account": job.account_id,
        "action": checked.action.name,
        "correlation_id": request.correlation_id,
        **actor.log_keys(),
    }
    log.info(
        events.JOB_SUBMITTED,
        **facts,
        fields=request.field_names,
        selected_by=sorted(checked.selection),
        contacts_listed=checked.selection.get("contacts"),
        addresses_listed=checked.selection.get("addresses"),
    )
    if checked.params.get("kind") in RECIPIENT_KINDS:
        log.info(events.OPT_OUT_RECEIVED, **facts, kind=checked.params["kind"])
