"""Tell by the account's addresses whether a valid address is probably a misspelling."""

from collections.abc import Sequence

import asyncpg

from db import address_lists
from db.hooks import Hook
from producers.address_files import DoubtfulAddress
from producers.fair_executor import run_off_loop
from producers.hook_fields import HookPost, ReadingDeadline
from schemas.addresses import (
    InvalidAddress,
    NormalizedAddress,
    find_correction,
    implausible_address,
)

MAX_INLINE_ADDRESSES = 100
"""More addresses than this are checked in a thread, so that other requests do not wait."""

_BATCH_SIZE = 1_000
"""Addresses that take some milliseconds to check."""


async def find_implausible(
    connection: asyncpg.Connection, account_id: int, doubtful: Sequence[DoubtfulAddress]
) -> dict[DoubtfulAddress, InvalidAddress]:
    """Return the addresses to reject, each with an error that suggests the intended address.

    One that the account knows is accepted as written. Any other is rejected if the correction is
    certain, or if the account knows the intended address, which an opt-out would otherwise miss.
    """
    found: dict[DoubtfulAddress, InvalidAddress] = {}
    # In batches: all of a long list would block the event loop for a second.
    for begin in range(0, len(doubtful), _BATCH_SIZE):
        batch = doubtful[begin : begin + _BATCH_SIZE]
        keys = {each.normalized.match_key for each in batch}
        keys |= {each.correction.intended.match_key for each in batch}
        known = await address_lists.find_known_keys(connection, account_id, list(keys))
        for each in batch:
            intended, is_certain = each.correction
            if each.normalized.match_key in known:
                continue
            if is_certain or intended.match_key in known:
                found[each] = implausible_address(each.normalized, intended)
    return found


def find_doubtful(addresses: Sequence[NormalizedAddress]) -> list[DoubtfulAddress]:
    """Return the doubtful addresses with their places; takes 0.1 ms for one that is not ASCII."""
    return [
        DoubtfulAddress(place, normalized, correction)
        for place, normalized in enumerate(addresses)
        if (correction := find_correction(normalized))
    ]


async def resolve_posts(
    pool: asyncpg.Pool, hook: Hook, posts: Sequence[HookPost]
) -> list[HookPost]:
    """Return the posts, each ambiguous address as the account knows it; raises ReadingTimeout."""
    many = sum(len(post.candidates) for post in posts) > MAX_INLINE_ADDRESSES
    keys = await run_off_loop(
        hook.account,
        lambda: list({key for post in posts for key in post.ambiguous_match_keys}),
        is_long=many,
    )
    if not keys:
        return list(posts)
    async with pool.acquire() as connection:
        known = await address_lists.find_known_keys(connection, hook.account_id, keys)

    def resolve() -> list[HookPost]:
        time = ReadingDeadline()
        resolved = []
        for post in posts:
            time.require_time_left()
            resolved.append(post.for_account(known))
        return resolved

    return await run_off_loop(hook.account, resolve, is_long=many)
