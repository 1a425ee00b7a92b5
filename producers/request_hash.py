"""Hash a request, to tell whether two with one idempotency key are the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_BATCH_SIZE = 10_000


def request_hash(
    *,
    account: str,
    action: str,
    selection: Mapping[str, Any],
    contacts: "Sequence[int] | ListHash | None",
    fields: Sequence[str],
    params: Mapping[str, Any],
    evidence: Mapping[str, Any] | None,
    addresses: "Sequence[str] | ListHash | None" = None,
    plan_first: bool = False,
    completion_url: str | None = None,
) -> str:
    """Return the SHA-256 of the request, in hexadecimal.

    The requester and the correlation id make no difference. `selection` is the summary that the job
    stores, `contacts` are the sorted distinct ids, and `addresses` the sorted distinct match keys,
    or the hash of such a list in a file. Lists are hashed apart, so that millions of items need no
    text of that size. Options that are not given are left out, so that a new option changes no
    stored hash.
    """
    asked: dict[str, Any] = {
        "account": account,
        "action": action,
        "selection": {**selection, "contacts": _list_hash(contacts)},
        "fields": list(fields),
        "params": params,
        "evidence": evidence,
    }
    if addresses is not None:
        asked["addresses"] = _list_hash(addresses)
    if plan_first:
        asked["plan_first"] = True
    if completion_url is not None:
        asked["completion_url"] = completion_url
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class ListHash:
    """The hash of sorted distinct ids or keys that come in blocks."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, block: Sequence[int] | Sequence[str]) -> None:
        """Add the next block."""
        for start in range(0, len(block), _BATCH_SIZE):
            batch = block[start : start + _BATCH_SIZE]
            self._digest.update("".join(f"{listed}\n" for listed in batch).encode())

    def hexdigest(self) -> str:
        """Return the hash of all blocks, in hexadecimal."""
        return self._digest.hexdigest()


def _list_hash(listed: Sequence[int] | Sequence[str] | ListHash | None) -> str | None:
    if listed is None:
        return None
    if isinstance(listed, ListHash):
        return listed.hexdigest()
    list_hash = ListHash()
    list_hash.add(listed)
    return list_hash.hexdigest()
