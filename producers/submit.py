"""The one way in for a bulk action over contacts that exist.

The command line, HTTP and Python callers all hand in a `JobRequest` here. Everything is checked
before anything is stored; a job and the ids it lists are stored together or not at all.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
from pydantic import ValidationError

from actions.bulk_action import BulkAction
from actions.registry import all_actions, get_action
from db import accounts, address_lists, contacts, jobs, webhook_deliveries
from producers.address_files import DoubtfulAddress
from producers.completion_urls import require_public_url
from producers.fair_executor import run_off_loop
from producers.invalid_request import (
    MAX_FIELD_ERRORS,
    convert_validation_error,
    invalid_request,
    require_storable_texts,
)
from producers.plausibility import MAX_INLINE_ADDRESSES, find_doubtful, find_implausible
from producers.request_hash import ListHash, request_hash
from producers.uploads import ListSummary, Upload
from runtime import events, logs
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.addresses import InvalidAddress, NormalizedAddress, parse_address
from schemas.errors import (
    FieldError,
    IdempotencyConflict,
    InvalidRequest,
    MostlyUnknownList,
    NotFound,
    StateConflict,
)
from schemas.evidence import require_evidence
from schemas.outcomes import FINAL_STATES
from schemas.requests import JobRequest, Selection
from schemas.statuses import RECIPIENT_KINDS
from workers.enqueue import enqueue_job

log = logs.get_logger()

MAX_NAMES = 10
"""Names of tags that an error offers to a person who named one that does not exist."""


class JobSubmission(NamedTuple):
    """The job that stands for the request.

    `created` is False when an earlier request with the same key made it. `enqueued` is False
    when Redis did not answer; the job is stored all the same, and the sweeper will find it.
    """

    job_id: int
    account_id: int
    created: bool
    enqueued: bool
    unknown: int | None = None


class ValidatedRequest(NamedTuple):
    """A request after all that can be checked without the database.

    `contacts` are the distinct ids that it lists, in order, and `addresses` the distinct ones, as
    they were given; None where it lists none. `unknown` is how many addresses of its list the
    account does not know, once it was asked.
    """

    action: BulkAction
    params: dict[str, Any]
    evidence: dict[str, Any] | None
    selection: dict[str, Any]
    contacts: list[int] | None
    addresses: list[NormalizedAddress] | None
    request_hash: str
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
    """Check the request, store it as a job, and enqueue it.

    The job stores the `actor` besides `requested_by`, which is the request's own claim. With an
    `upload`, the contacts or addresses come from a file, and `request` has an empty list in their
    place (`parse_request` takes it as `uploaded`). Unless it may be `allow_mostly_unknown`, a list
    of mostly unknown addresses raises MostlyUnknownList. Addresses that a recipient's act has named
    are taken `is_verbatim`, however odd they are. `merged_hashes` are the hashes, by key, of the
    requests that the job stands for, if there are several. A request that `is_large` is checked
    outside the event loop.

    Raises InvalidRequest (MissingEvidence and NotFound among them) if it cannot be carried out,
    StateConflict if it selects the contacts of an import that is still running, and
    IdempotencyConflict if its key stands for another request. Nothing is stored then. If the
    connection is lost, submitting again with the same key is safe.
    """
    if upload is None and request.selection.awaits_file:
        raise InvalidRequest(
            "The request selects an empty list, which is of nobody; nothing was stored. List"
            " something, or hand in the file that it stands for."
        )

    def look_at() -> tuple[ValidatedRequest, list[DoubtfulAddress]]:
        checked = validate_request(request)
        return checked, [] if is_verbatim else find_doubtful(checked.addresses or ())

    many = len(request.selection.addresses or ()) > MAX_INLINE_ADDRESSES
    checked, doubtful = await run_off_loop(request.account, look_at, is_long=is_large or many)
    require_public_url(settings, request.completion_url)
    correlation_id = request.correlation_id or uuid.uuid4().hex
    async with pool.acquire() as connection:
        account_id = await require_account(connection, request.account)
        await _require_selectable(connection, account_id, request)
        if upload is None:
            await _require_plausible(connection, account_id, doubtful)
            checked = await _count_unknown(connection, account_id, checked)
        async with connection.transaction():
            if upload is not None:
                listed = await upload.stage(connection, account_id)
                if not allow_mostly_unknown:
                    _require_known(listed)
                checked = validate_request(request, listed)
            stored = await _store(
                connection, account_id, request, checked, correlation_id=correlation_id, actor=actor
            )
            if upload is not None and stored.created:
                await upload.keep(connection, account_id, stored.job_id)
            if merged_hashes:
                await jobs.insert_merged_events(
                    connection, account_id=account_id, job_id=stored.job_id, hashes=merged_hashes
                )
    require_same_request(stored, request, checked)
    if not stored.created:
        return JobSubmission(
            stored.job_id, account_id, created=False, enqueued=True, unknown=checked.unknown
        )
    log_submitted(
        stored.job_id, account_id, checked, request, correlation_id=correlation_id, actor=actor
    )
    enqueued = await enqueue_job(
        settings, account_id=account_id, job_id=stored.job_id, action=checked.action.name
    )
    return JobSubmission(
        stored.job_id, account_id, created=True, enqueued=enqueued, unknown=checked.unknown
    )


def require_same_request(
    stored: jobs.InsertedJob, request: JobRequest, checked: ValidatedRequest
) -> None:
    """Raise IdempotencyConflict when the job that has the request's key was asked for otherwise."""
    if stored.request_hash != checked.request_hash:
        raise IdempotencyConflict(
            f"The key {request.idempotency_key!r} was used before, for job {stored.job_id}, and"
            " that asked for something else. Nothing was stored. Look at that job, and use a new"
            " key for a new request."
        )


async def require_account(connection: asyncpg.Connection, name: str) -> int:
    """Return the id of the account called `name`; raises NotFound, which lists the known names."""
    found = await accounts.get_account_id(connection, name)
    if found is not None:
        return found
    raise await unknown_account_error(connection, name)


async def find_account(connection: asyncpg.Connection, name: str | None) -> int | None:
    """Return the id of the account called `name`, or None for all accounts if `name` is None.

    An empty name belongs to no account. Raises NotFound as `require_account` does.
    """
    return None if name is None else await require_account(connection, name)


async def unknown_account_error(connection: asyncpg.Connection, name: str) -> NotFound:
    """Make the error for an unknown account; it lists the known names."""
    names = ", ".join(account.name for account in await accounts.list_accounts(connection))
    return NotFound(
        f"There is no account {name!r}. Nothing was stored. There are: {names}."
        " `sluice accounts create NAME` adds one."
    )


def validate_request(request: JobRequest, uploaded: ListSummary | None = None) -> ValidatedRequest:
    """Check all of the request that the database need not be asked about; raises InvalidRequest.

    `uploaded` is the list of a file, once that was read.
    """
    # An id is no text, and an address that is none is refused by itself.
    listed = {"selection": {"contacts", "addresses"}}
    require_storable_texts("The request", request, exclude=listed)
    action = _get_selecting_action(request)
    params = _params(action, request.params)
    evidence = _evidence(action, request.evidence)
    contacts = request.selection.contacts
    distinct = None if contacts is None else sorted(set(contacts))
    addresses = _parse_addresses(request.selection.addresses)
    selection = _summary(request.selection, distinct, addresses)
    unknown = None
    hashed: dict[str, Sequence[int] | Sequence[str] | ListHash | None] = {
        "contacts": distinct,
        "addresses": None if addresses is None else sorted(each.match_key for each in addresses),
    }
    if uploaded is not None:
        unknown = uploaded.unknown
        selection[uploaded.name] = uploaded.number
        hashed[uploaded.name] = uploaded.list_hash
    return ValidatedRequest(
        action,
        params,
        evidence,
        selection,
        distinct,
        addresses,
        request_hash(
            account=request.account,
            action=action.name,
            selection=selection,
            fields=request.field_names,
            params=params,
            evidence=evidence,
            plan_first=request.plan_first,
            completion_url=request.completion_url,
            **hashed,  # type: ignore[arg-type]
        ),
        unknown,
    )


def _get_selecting_action(request: JobRequest) -> BulkAction:
    name = request.action
    action = get_action(name)
    if request.selection.addresses is not None and not action.accepts_addresses:
        choices = [other.name for other in all_actions().values() if other.accepts_addresses]
        why = (
            f"The action {name!r} takes contacts and no addresses. Actions that take addresses:"
            f" {', '.join(choices)}."
        )
        raise invalid_request("The request", [FieldError("selection.addresses", why)])
    if action.creates_contacts:
        choices = [other.name for other in all_actions().values() if not other.creates_contacts]
        why = (
            f"The action {name!r} brings its own contacts and takes no selection. Actions over"
            f" contacts that exist: {', '.join(choices)}."
        )
        raise invalid_request("The request", [FieldError("action", why)])
    return action


def _params(action: BulkAction, given: dict[str, Any]) -> dict[str, Any]:
    try:
        return action.params.model_validate(given).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        what = f"The {action.name} job"
        raise convert_validation_error(what, error, action.params, within=("params",)) from None


def _evidence(action: BulkAction, given: dict[str, Any] | None) -> dict[str, Any] | None:
    if not action.needs_evidence:
        if given is not None:
            why = f"The action {action.name!r} takes no evidence. Leave the evidence out."
            raise invalid_request("The request", [FieldError("evidence", why)])
        return None
    evidence = require_evidence(given, today=datetime.now(UTC).date())
    return evidence.model_dump(mode="json", exclude_none=True)


def _parse_addresses(addresses: Sequence[str] | None) -> list[NormalizedAddress] | None:
    """Normalize the addresses and drop repetitions, each at its first place.

    Raises InvalidRequest, which names invalid addresses by place and never quotes them.
    """
    if addresses is None:
        return None
    found: dict[str, NormalizedAddress] = {}
    wrong: list[FieldError] = []
    more = ""
    for place, text in enumerate(addresses):
        try:
            identity = parse_address(text)
        except InvalidAddress as error:
            wrong.append(FieldError(f"selection.addresses.{place}", str(error)))
            if len(wrong) == MAX_FIELD_ERRORS:
                more = "and what comes after it was not looked at"
                break
        else:
            found.setdefault(identity.match_key, identity)
    if wrong:
        raise invalid_request("The request", wrong, more)
    return list(found.values())


def _summary(
    selection: Selection, contacts: list[int] | None, addresses: list[NormalizedAddress] | None
) -> dict[str, Any]:
    """Describe the selection for `jobs.selection`: the given conditions, and the number of ids."""
    listed = {"contacts", "addresses"}
    summary = selection.model_dump(mode="json", exclude_defaults=True, exclude=listed)
    if "statuses" in summary:
        summary["statuses"] = sorted(set(summary["statuses"]))
    if contacts is not None:
        summary["contacts"] = len(contacts)
    if addresses is not None:
        summary["addresses"] = len(addresses)
    return summary


async def _require_selectable(
    connection: asyncpg.Connection, account_id: int, request: JobRequest
) -> None:
    selection = request.selection
    if selection.tag is not None and not await contacts.tag_exists(
        connection, account_id, selection.tag
    ):
        names = await contacts.list_tags(connection, account_id, limit=MAX_NAMES)
        hint = f"Some that exist: {', '.join(names)}." if names else "It has no tags yet."
        raise NotFound(
            f"The account {request.account!r} has no tag {selection.tag!r}; nothing was stored."
            f" {hint}"
        )
    if selection.import_job is not None:
        await _require_import(connection, account_id, selection.import_job)


async def _require_import(connection: asyncpg.Connection, account_id: int, job_id: int) -> None:
    job = await jobs.get_job(connection, job_id, account_id=account_id)
    if job is None:
        raise NotFound(
            f"The account has no job {job_id}; nothing was stored. Name an import of the account."
        )
    if not get_action(job.action).creates_contacts:
        raise NotFound(
            f"Job {job_id} is not an import but {job.action}. Nothing was stored. Name an import of"
            " the account."
        )
    if job.state not in FINAL_STATES:
        # A selection is frozen once; half of an import would be selected without a word.
        raise StateConflict(
            f"The import {job_id} is {job.state.value}, so not all of its contacts are there yet;"
            " nothing was stored. Wait until it has completed, then submit."
        )


async def _store(
    connection: asyncpg.Connection,
    account_id: int,
    request: JobRequest,
    checked: ValidatedRequest,
    *,
    correlation_id: str,
    actor: Actor,
) -> jobs.InsertedJob:
    """Store the job with all that it lists, in the transaction of the caller."""
    stored = await jobs.insert_job(
        connection,
        account_id=account_id,
        action=checked.action.name,
        fields=request.field_numbers,
        params=checked.params,
        evidence=checked.evidence,
        selection=add_unknown_count(checked.selection, checked.unknown),
        plan_first=request.plan_first,
        requested_by=request.requested_by,
        idempotency_key=request.idempotency_key,
        request_hash=checked.request_hash,
        correlation_id=correlation_id,
        actor=actor,
    )
    if stored.created and checked.contacts:
        await jobs.insert_job_contacts(connection, account_id, stored.job_id, checked.contacts)
    if stored.created and checked.addresses:
        await address_lists.insert_list(
            connection,
            account_id=account_id,
            job_id=stored.job_id,
            identities=checked.addresses,
        )
    if stored.created and request.completion_url:
        await webhook_deliveries.insert_delivery(
            connection, account_id, stored.job_id, request.completion_url
        )
    return stored


async def _require_plausible(
    connection: asyncpg.Connection, account_id: int, doubtful: Sequence[DoubtfulAddress]
) -> None:
    """Raise InvalidRequest for addresses with which others are meant, by their places in the
    request.

    What the request lists once may stand there twice: the first place is told.
    """
    found = await find_implausible(connection, account_id, doubtful)
    if found:
        told = [
            FieldError(f"selection.addresses.{place}", why)
            for place, why in found[:MAX_FIELD_ERRORS]
        ]
        left = len(found) - len(told)
        more = f"and {left} more mistakes" if left else ""
        raise invalid_request("The request", told, more)


def add_unknown_count(selection: dict[str, Any], unknown: int | None) -> dict[str, Any]:
    """Add to a job's selection how many of its addresses were unknown."""
    return selection if unknown is None else {**selection, "unknown": unknown}


async def _count_unknown(
    connection: asyncpg.Connection, account_id: int, checked: ValidatedRequest
) -> ValidatedRequest:
    if checked.addresses is None:
        return checked
    keys = [each.match_key for each in checked.addresses]
    known = await address_lists.find_known_keys(connection, account_id, keys)
    return checked._replace(unknown=len(keys) - len(known))


def _require_known(listed: ListSummary) -> None:
    if listed.unknown is not None and 2 * listed.unknown > listed.number:
        raise MostlyUnknownList(listed.unknown, listed.number)


def log_submitted(
    job_id: int,
    account_id: int,
    checked: ValidatedRequest,
    request: JobRequest,
    *,
    correlation_id: str,
    actor: Actor,
) -> None:
    """Log that the job was stored, and that a recipient's own opt-out was, if it is one."""
    facts = {
        "job": job_id,
        "account": account_id,
        "action": checked.action.name,
        "correlation_id": correlation_id,
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
