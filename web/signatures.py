"""Signatures of messages: an HMAC over the timestamp and the exact bytes of the body."""

import re
import time
from collections.abc import Sequence

from fastapi import Request

from runtime.signing import equal_in_constant_time, signature
from web.problems import INVALID_SIGNATURE, STALE_TIMESTAMP, Problem

MAX_CLOCK_SKEW_SECONDS = 300
"""How far a message's timestamp may differ from this process's clock, either way."""

_is_unix_time = re.compile(r"[0-9]{1,12}", re.ASCII).fullmatch


def has_valid_signature(request: Request, body: bytes, secrets: Sequence[str]) -> bool:
    """Tell whether the message is signed with one of the secrets, whatever its timestamp.

    Every secret is tried, so that the duration does not reveal which one it was.
    """
    timestamp = request.headers.get("sluice-timestamp", "")
    given = request.headers.get("sluice-signature", "")
    matches = [
        equal_in_constant_time(given, signature(secret, timestamp, body)) for secret in secrets
    ]
    return _is_unix_time(timestamp) is not None and any(matches)


def invalid_signature_problem() -> Problem:
    """Build the response to a message whose signature is not valid."""
    return Problem(
        INVALID_SIGNATURE,
        "The message is not signed with the hook's secret. Nothing was stored. Send"
        " Sluice-Timestamp with Unix seconds, and Sluice-Signature with v1= and the hexadecimal"
        " HMAC-SHA256, by the secret, of the timestamp, a full stop and the body.",
    )


def require_fresh(request: Request) -> None:
    """Raise Problem if a message with a valid signature is too old, or from the future."""
    if abs(time.time() - int(request.headers["sluice-timestamp"])) > MAX_CLOCK_SKEW_SECONDS:
        raise Problem(
            STALE_TIMESTAMP,
            f"The message was signed more than {MAX_CLOCK_SKEW_SECONDS} seconds before or after"
            " now. Nothing was stored. Set the sender's clock, and sign the message again.",
        )
