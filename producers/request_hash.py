"""Telling whether two requests with one idempotency key ask for the same."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.addresses import Identity

_IDS_AT_ONCE = 10_000


def request_hash(
    *,
    account: str,
    action: str,
    selection: Mapping[str, Any],
    contacts: "Sequence[int] | IdsHash | None",
    fields: Sequence[str],
    params: Mapping[str, Any],
    evidence: Mapping[str, Any] | None,
    addresses: Sequence[Identity] | None = None,
    plan_first: bool = False,
    completion_url: str | None = None,
) -> str:
    """SHA-256 over what is asked for, in hexadecimal.

    Who asks, and under which correlation id, makes no difference. `selection` is the summary that
    is stored with the job, and `contacts` the sorted distinct ids it lists, or the hash of them
    where they came in a file; they are hashed on their own, so that millions of them need no text
    of that size; so are `addresses`, which are in order of their keys. What is not asked for leaves
    no trace, so that what is added here later changes no hash that was stored before.
    """
    asked: dict[str, Any] = {
        "account": account,
        "action": action,
        "selection": {**selection, "contacts": _ids_hash(contacts)},
        "fields": list(fields),
        "params": params,
        "evidence": evidence,
    }
    if addresses is not None:
        asked["addresses"] = _lines_hash(identity.match_key for identity in addresses)
    if plan_first:
        asked["plan_first"] = True
    if completion_url is not None:
        asked["completion_url"] = completion_url
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _lines_hash(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


class IdsHash:
    """The hash of sorted distinct ids that come in blocks."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, block: Sequence[int]) -> None:
        """The ids that come next."""
        self._digest.update("".join(f"{contact_id}\n" for contact_id in block).encode())

    def hexdigest(self) -> str:
        """What stands for all that came."""
        return self._digest.hexdigest()


def _ids_hash(contacts: Sequence[int] | IdsHash | None) -> str | None:
    if contacts is None:
        return None
    if isinstance(contacts, IdsHash):
        return contacts.hexdigest()
    ids_hash = IdsHash()
    for start in range(0, len(contacts), _IDS_AT_ONCE):
        ids_hash.add(contacts[start : start + _IDS_AT_ONCE])
    return ids_hash.hexdigest()
