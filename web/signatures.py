"""Messages that prove who sent them, by a signature over the very bytes of the body."""

import re
import time
from collections.abc import Sequence

from fastapi import Request

from runtime.signing import equal_in_constant_time, signature
from web.problems import INVALID_SIGNATURE, STALE_TIMESTAMP, Problem

MAX_CLOCK_SKEW_SECONDS = 300
"""How far the clock of a sender may be from ours, either way, and how late a message may come."""

_is_unix_time = re.compile(r"[0-9]{1,12}", re.ASCII).fullmatch


def has_valid_signature(request: Request, body: bytes, secrets: Sequence[str]) -> bool:
    """Tell whether the message is signed with one of the secrets, whenever that was.

    Each of them is tried, so that the time does not tell which one it was.
    """
    timestamp = request.headers.get("sluice-timestamp", "")
    given = request.headers.get("sluice-signature", "")
    right = [
        equal_in_constant_time(given, signature(secret, timestamp, body)) for secret in secrets
    ]
    return _is_unix_time(timestamp) is not None and any(right)


def require_signature(request: Request, body: bytes, secrets: Sequence[str]) -> None:
    """Raise Problem unless the message is signed with one of the secrets, and not long ago."""
    if not has_valid_signature(request, body, secrets):
        raise Problem(
            INVALID_SIGNATURE,
            "The message is not signed with the hook's secret; nothing was stored. Send"
            " Sluice-Timestamp with Unix seconds, and Sluice-Signature with v1= and the hexadecimal"
            " HMAC-SHA256, by the secret, of the timestamp, a full stop and the body's bytes.",
        )
    if abs(time.time() - int(request.headers["sluice-timestamp"])) > MAX_CLOCK_SKEW_SECONDS:
        raise Problem(
            STALE_TIMESTAMP,
            f"The message was signed more than {MAX_CLOCK_SKEW_SECONDS} seconds from now by"
            " our clock;"
            " nothing was stored. Sign it again, and set the sender's clock.",
        )
