"""Telling whether two requests with one idempotency key ask for the same."""

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
    """SHA-256 over what is asked for, in hexadecimal.

    Who asks, and under which correlation id, makes no difference. `selection` is the summary that
    is stored with the job, `contacts` the sorted distinct ids it lists, and `addresses` the sorted
    distinct keys of addresses, or the hash of either where it came in a file: they are hashed on
    their own, so that millions of them need no text of that size. What is not asked for leaves no
    trace, so that what is added here later changes no hash that was stored before.
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
    """The hash of sorted distinct ids, or keys, that come in blocks."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, block: Sequence[int] | Sequence[str]) -> None:
        """Those that come next."""
        self._digest.update("".join(f"{listed}\n" for listed in block).encode())

    def hexdigest(self) -> str:
        """What stands for all that came."""
        return self._digest.hexdigest()


def _list_hash(listed: Sequence[int] | Sequence[str] | ListHash | None) -> str | None:
    if listed is None:
        return None
    if isinstance(listed, ListHash):
        return listed.hexdigest()
    list_hash = ListHash()
    for start in range(0, len(listed), _BATCH_SIZE):
        list_hash.add(listed[start : start + _BATCH_SIZE])
    return list_hash.hexdigest()
