"""The job request for a recipient's opt-out that a sender of mail reports.

The sender's own id of the event becomes the idempotency key, so that an event reported twice is one
job, wherever the first response was lost.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

from producers.invalid_request import is_storable, require_storable
from schemas.addresses import InvalidAddress, normalize_address
from schemas.errors import InvalidRequest
from schemas.requests import JobRequest, Selection
from schemas.statuses import Status

MAX_CLOCK_SKEW = timedelta(minutes=5)
"""How far a sender's clock may be ahead of ours."""

MAX_NOTE_LENGTH = 1000
_MAX_KEY_LENGTH = 200


def _require_past(moment: datetime) -> datetime:
    if moment > datetime.now(UTC) + MAX_CLOCK_SKEW:
        raise ValueError("it lies in the future; say when it happened")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it lies before the year 1; say when it happened") from None


Moment = Annotated[AwareDatetime, AfterValidator(_require_past)]
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]
"""One word, so that a source and an event id joined by a blank are unambiguous."""


def opt_out_request(
    *,
    account: str,
    addresses: Sequence[str],
    kind: Status,
    source: str,
    key: str | None,
    requested_by: str,
    correlation_id: str,
    occurred_at: datetime | None = None,
    note: str | None = None,
) -> JobRequest:
    """Return the request for one person's opt-out of these addresses; raises InvalidRequest.

    `occurred_at` stays empty if the sender does not say it: our own time would make a different
    request of each repetition.
    """
    require_storable("The opt-out", [*addresses, key, note])
    params = {"kind": kind.value, "source": source, "note": note}
    if occurred_at is not None:
        params["occurred_at"] = occurred_at.isoformat()
    return JobRequest(
        account=account,
        action="opt_out",
        selection=Selection(addresses=tuple(require_address(text) for text in addresses)),
        params={name: value for name, value in params.items() if value is not None},
        requested_by=requested_by,
        idempotency_key=key,
        correlation_id=correlation_id,
    )


def require_address(text: str) -> str:
    """Return the address without white space around it; raises InvalidRequest."""
    try:
        return normalize_address(text).address
    except InvalidAddress as error:
        raise InvalidRequest(
            f"address: This is not an email address. {error} Nothing was stored. Give the address"
            " alone, without a name or brackets."
        ) from None


_RESERVED_KEY_PREFIXES = ("opt-out ", "hook ", "one-click ", "again ")


def require_unreserved_key(key: str | None) -> None:
    """Raise InvalidRequest for an idempotency key that a recipient's opt-out could have.

    A job of another kind with that key would prevent the opt-out.
    """
    if key is not None and key.startswith(_RESERVED_KEY_PREFIXES):
        raise InvalidRequest(
            "Keys that begin like this one are reserved for recipients' opt-outs. Nothing was"
            " stored. Use a key that does not begin with"
            f" {', '.join(map(repr, _RESERVED_KEY_PREFIXES))}."
        )


_DIGEST = "sha256:"


def event_key(*words: str | int, event_id: str) -> str:
    """Return the idempotency key of an event: the words and its id.

    A digest replaces an id that is too long or cannot be stored.
    """
    key = " ".join([*map(str, words), event_id])
    # An id that looks like a digest is digested too, so that no two ids share a key.
    if len(key) <= _MAX_KEY_LENGTH and is_storable(event_id) and not event_id.startswith(_DIGEST):
        return key
    return " ".join([*map(str, words), f"{_DIGEST}{_digest_text(event_id)}"])


def day_key(*words: str | int, act: Sequence[str], kind: Status) -> str:
    """Return the idempotency key of an opt-out without an id: once a day (UTC) is the same."""
    digest = _digest_text("\n".join(act))
    return " ".join(map(str, [*words, "of a day", digest, kind.value, datetime.now(UTC).date()]))


def _digest_text(text: str) -> str:
    # Unpaired surrogates, which JSON can have, are distinct as well.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
