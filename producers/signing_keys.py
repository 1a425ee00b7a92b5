"""List what depends on each of SIGNING_KEYS, so that one can be removed safely."""

from collections import defaultdict
from typing import NamedTuple

import asyncpg

from db import hooks, webhook_deliveries
from runtime.settings import Settings
from runtime.signing import signing_key_ids

UNKNOWN = "unknown"
"""Stands for the key of hooks whose key was not stored."""


class SigningKeyUse(NamedTuple):
    """One of SIGNING_KEYS, or a key that is no longer listed but still in use.

    `state` is signs, verifies or missing. Nobody knows which one-click links in sent
    mail depend on a key.
    """

    id: str
    state: str
    hooks: list[int]
    accounts: list[str]


async def list_signing_key_uses(pool: asyncpg.Pool, settings: Settings) -> list[SigningKeyUse]:
    """Return SIGNING_KEYS in their order, then missing ones, each with what depends on it.

    Raises SettingsError if there are no keys.
    """
    listed = signing_key_ids(settings)
    async with pool.acquire() as connection:
        all_hooks = await hooks.list_hooks(connection)
        accounts = await webhook_deliveries.list_secret_sources(connection)
    hooks_of: dict[str, set[int]] = defaultdict(set)
    for hook in all_hooks:
        if hook.revoked_at is None:
            hooks_of[hook.key_id or UNKNOWN].add(hook.id)
            if hook.former_key_id is not None:
                hooks_of[hook.former_key_id].add(hook.id)
    accounts_of: dict[str, list[str]] = defaultdict(list)
    for name, key_id in accounts:
        accounts_of[key_id].append(name)
    missing = sorted({*hooks_of, *accounts_of} - {*listed})
    return [
        SigningKeyUse(key_id, _state(key_id, listed), sorted(hooks_of[key_id]), accounts_of[key_id])
        for key_id in [*listed, *missing]
    ]


def _state(key_id: str, listed: list[str]) -> str:
    if key_id not in listed:
        return "missing"
    return "signs" if key_id == listed[0] else "verifies"
