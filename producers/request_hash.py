"""Hash a request, to tell whether two with one idempotency key are the same."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from schemas.requests import JobRequest

_BATCH_SIZE = 10_000


def hash_request(request: JobRequest, **checked: Any) -> str:
    """Return the SHA-256, in hexadecimal, of the request and its `checked` parts.

    The requester and the correlation id make no difference. Options that are not given are left
    out, so that a new one changes no stored hash. Give a list of millions of items as a `ListHash`,
    so that no text has its size.
    """
    given = {
        "account": request.account,
        "action": request.action,
        "fields": request.field_names,
        "evidence": None,
        **checked,
    }
    for option in ("plan_first", "completion_url"):
        if value := getattr(request, option):
            given[option] = value
    canonical = json.dumps(given, sort_keys=True, separators=(",", ":"), default=ListHash.hexdigest)
    return hashlib.sha256(canonical.encode()).hexdigest()


class ListHash:
    """The hash of sorted distinct ids or match keys, which may come in blocks."""

    def __init__(self, block: Sequence[int] | Sequence[str] = ()) -> None:
        self._digest = hashlib.sha256()
        self.add(block)

    def add(self, block: Sequence[int] | Sequence[str]) -> None:
        """Add the next block."""
        for start in range(0, len(block), _BATCH_SIZE):
            batch = block[start : start + _BATCH_SIZE]
            self._digest.update("".join(f"{listed}\n" for listed in batch).encode())

    def hexdigest(self) -> str:
        """Return the hash of all blocks, in hexadecimal."""
        return self._digest.hexdigest()
