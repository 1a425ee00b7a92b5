"""Check all of a job request that can be checked without the database."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from actions.bulk_action import BulkAction
from actions.registry import all_actions, get_action
from db.jobs import NewJob
from producers.invalid_request import (
    MAX_FIELD_ERRORS,
    convert_validation_error,
    invalid_request,
    require_storable_texts,
)
from producers.request_hash import ListHash, hash_request
from producers.uploads import ListSummary
from schemas.actors import Actor
from schemas.addresses import InvalidAddress, NormalizedAddress, parse_address
from schemas.errors import FieldError
from schemas.evidence import require_evidence
from schemas.requests import JobRequest, Selection

_LISTS = {"contacts", "addresses"}


class ValidatedRequest(NamedTuple):
    """A request that was checked as far as possible without the database.

    `contacts` are the distinct ids that it lists, in order, and `addresses` the distinct addresses
    as given; None if it lists none. `unknown` counts the addresses of its list that the account
    does not know; None until the account was asked.
    """

    action: BulkAction
    params: dict[str, Any]
    selection: dict[str, Any]
    evidence: dict[str, Any] | None = None
    contacts: list[int] | None = None
    addresses: list[NormalizedAddress] | None = None
    request_hash: str = ""
    unknown: int | None = None

    def new_job(self, account_id: int, request: JobRequest, actor: Actor) -> NewJob:
        """Return what the job stores."""
        unknown = {} if self.unknown is None else {"unknown": self.unknown}
        return NewJob(
            account_id=account_id,
            action=self.action.name,
            fields=request.field_numbers,
            params=self.params,
            selection=self.selection | unknown,
            requested_by=request.requested_by,
            idempotency_key=request.idempotency_key,
            request_hash=self.request_hash,
            correlation_id=request.correlation_id or "",
            actor=actor,
            evidence=self.evidence,
            plan_first=request.plan_first,
        )


def validate_request(request: JobRequest, uploaded: ListSummary | None = None) -> ValidatedRequest:
    """Check the request; raises InvalidRequest. `uploaded` is the list of a file that was read."""
    # Ids are no texts, and addresses are checked one by one.
    require_storable_texts("The request", request, exclude={"selection": _LISTS})
    action = _get_selecting_action(request)
    params = validate_params(action, request.params, within=("params",))
    evidence = _evidence(action, request.evidence)
    listed = request.selection.contacts
    contacts = None if listed is None else sorted(set(listed))
    addresses = _parse_addresses(request.selection.addresses)
    lists: list[ListSummary] = []
    if contacts is not None:
        lists.append(ListSummary("contacts", len(contacts), ListHash(contacts)))
    if addresses is not None:
        keys = sorted(each.match_key for each in addresses)
        lists.append(ListSummary("addresses", len(keys), ListHash(keys)))
    if uploaded is not None:
        # It replaces the empty list of that name.
        lists.append(uploaded)
    selection = _conditions(request.selection) | {each.name: each.number for each in lists}
    hashes = {each.name: each.list_hash for each in lists}
    in_hash = {**selection, "contacts": hashes.pop("contacts", None)}
    hash_ = hash_request(request, selection=in_hash, params=params, evidence=evidence, **hashes)
    unknown = uploaded and uploaded.unknown
    return ValidatedRequest(
        action, params, selection, evidence, contacts, addresses, hash_, unknown
    )


def _get_selecting_action(request: JobRequest) -> BulkAction:
    action = get_action(request.action)
    known = all_actions().values()
    if request.selection.addresses is not None and not action.accepts_addresses:
        choices = [other.name for other in known if other.accepts_addresses]
        why = (
            f"The action {action.name!r} takes contacts and no addresses. Actions that take"
            f" addresses: {', '.join(choices)}."
        )
        raise invalid_request("The request", [FieldError("selection.addresses", why)])
    if action.creates_contacts:
        choices = [other.name for other in known if not other.creates_contacts]
        why = (
            f"The action {action.name!r} brings its own contacts and takes no selection. Actions"
            f" over existing contacts: {', '.join(choices)}."
        )
        raise invalid_request("The request", [FieldError("action", why)])
    return action


def validate_params(
    action: BulkAction, given: dict[str, Any], *, within: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the params as the job stores them; raises InvalidRequest.

    `within` is their place in the request.
    """
    try:
        return action.params.model_validate(given).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        what = f"The {action.name} job"
        raise convert_validation_error(what, error, action.params, within=within) from None


def _evidence(action: BulkAction, given: dict[str, Any] | None) -> dict[str, Any] | None:
    if not action.needs_evidence:
        if given is not None:
            why = f"The action {action.name!r} takes no evidence. Leave the evidence out."
            raise invalid_request("The request", [FieldError("evidence", why)])
        return None
    evidence = require_evidence(given, today=datetime.now(UTC).date())
    return evidence.model_dump(mode="json", exclude_none=True)


def _parse_addresses(addresses: Sequence[str] | None) -> list[NormalizedAddress] | None:
    """Return the distinct addresses, each in its first form and place.

    Raises InvalidRequest, which names invalid addresses by their places, without quoting them.
    """
    if addresses is None:
        return None
    found: dict[str, NormalizedAddress] = {}
    wrong: list[FieldError] = []
    more = ""
    for place, text in enumerate(addresses):
        try:
            normalized = parse_address(text)
        except InvalidAddress as error:
            wrong.append(FieldError(f"selection.addresses.{place}", str(error)))
            if len(wrong) == MAX_FIELD_ERRORS:
                more = "The addresses after it were not checked."
                break
        else:
            found.setdefault(normalized.match_key, normalized)
    if wrong:
        raise invalid_request("The request", wrong, more)
    return list(found.values())


def _conditions(selection: Selection) -> dict[str, Any]:
    """Return the conditions as `jobs.selection` stores them, without the lists."""
    conditions = selection.model_dump(mode="json", exclude_defaults=True, exclude=_LISTS)
    if "statuses" in conditions:
        conditions["statuses"] = sorted(set(conditions["statuses"]))
    return conditions
