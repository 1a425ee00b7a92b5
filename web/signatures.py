"""Messages that prove who sent them, by a signature over the very bytes of the body."""

import re
import time
from collections.abc import Sequence

from fastapi import Request

from runtime.signing import same, signature
from web.problems import SIGNATURE_WRONG, STALE, Problem

MOST_SECONDS_OFF = 300
"""How far the clock of a sender may be from ours, either way, and how late a message may come."""

_seconds = re.compile(r"[0-9]{1,12}", re.ASCII).fullmatch


def is_signed(request: Request, body: bytes, secrets: Sequence[str]) -> bool:
    """Tell whether the message is signed with one of the secrets, whenever that was.

    Each of them is tried, so that the time does not tell which one it was.
    """
    timestamp = request.headers.get("sluice-timestamp", "")
    given = request.headers.get("sluice-signature", "")
    right = [same(given, signature(secret, timestamp, body)) for secret in secrets]
    return _seconds(timestamp) is not None and any(right)


def require_signed(request: Request, body: bytes, secrets: Sequence[str]) -> None:
    """Raise Problem unless the message is signed with one of the secrets, and not long ago."""
    if not is_signed(request, body, secrets):
        raise Problem(
            SIGNATURE_WRONG,
            "The message is not signed with the hook's secret; nothing was stored. Send"
            " Sluice-Timestamp with Unix seconds, and Sluice-Signature with v1= and the hexadecimal"
            " HMAC-SHA256, by the secret, of the timestamp, a full stop and the body's bytes.",
        )
    if abs(time.time() - int(request.headers["sluice-timestamp"])) > MOST_SECONDS_OFF:
        raise Problem(
            STALE,
            f"The message was signed more than {MOST_SECONDS_OFF} seconds from now by our clock;"
            " nothing was stored. Sign it again, and set the sender's clock.",
        )
