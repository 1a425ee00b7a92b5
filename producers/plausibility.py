"""Whether an address that is formally valid is the one that is meant, which the account tells."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import asyncpg

from db import address_lists
from db.hooks import Hook
from producers.address_files import DoubtfulAddress
from producers.fair_executor import run_off_loop
from producers.hook_fields import HookPost, ReadingDeadline
from producers.import_rejections import invalid_address
from schemas.addresses import NormalizedAddress, find_correction, implausible_address
from schemas.staging import ImportRejection

T = TypeVar("T")

MAX_INLINE_ADDRESSES = 100
"""More addresses than this are looked at in a thread, so that others are answered meanwhile."""

_BATCH_SIZE = 1_000
"""Of so many addresses it takes some milliseconds to tell which are meant."""


class PlausibilityResult(NamedTuple):
    """Addresses that count as they are written, and those that are refused with a suggestion."""

    rows: list[tuple[int, NormalizedAddress]]
    rejections: list[ImportRejection]


async def split_plausible(
    connection: asyncpg.Connection, account_id: int, doubtful: Sequence[DoubtfulAddress]
) -> PlausibilityResult:
    """Tell which of the addresses are intended as they are written.

    An address that the account knows is. Any other is refused if its correction is certain, or if
    the account knows the correction: a new address would be opted out, and the intended one not.
    """
    meant = PlausibilityResult([], [])
    async for each, is_meant in _judge(connection, account_id, doubtful):
        if is_meant:
            meant.rows.append((each.line, each.identity))
        else:
            why = implausible_address(each.identity, each.doubt.intended)
            meant.rejections.append(invalid_address(each.line, each.identity.address, why))
    return meant


async def find_implausible(
    connection: asyncpg.Connection, account_id: int, doubtful: Sequence[DoubtfulAddress]
) -> list[tuple[int, str]]:
    """Return the places of the addresses that are not meant as they are written, and why not."""
    return [
        (each.line, str(implausible_address(each.identity, each.doubt.intended)))
        async for each, is_meant in _judge(connection, account_id, doubtful)
        if not is_meant
    ]


async def _judge(
    connection: asyncpg.Connection, account_id: int, doubtful: Sequence[DoubtfulAddress]
) -> AsyncIterator[tuple[DoubtfulAddress, bool]]:
    """Yield the addresses, each with whether it is meant as it is written.

    The account is asked about some of them at a time, and others are answered meanwhile: for all
    of a long list the event loop would be busy for a second.
    """
    for begin in range(0, len(doubtful), _BATCH_SIZE):
        some = doubtful[begin : begin + _BATCH_SIZE]
        keys = {each.identity.match_key for each in some}
        keys |= {each.doubt.intended.match_key for each in some}
        known = await address_lists.find_known_keys(connection, account_id, list(keys))
        for each in some:
            meant, certain = each.doubt
            refused = certain or meant.match_key in known
            yield each, each.identity.match_key in known or not refused


def find_doubtful(identities: Sequence[NormalizedAddress]) -> list[DoubtfulAddress]:
    """Return those of the addresses that may be other ones, with their places. It takes 0.1 ms of
    an address that is not ASCII.
    """
    return [
        DoubtfulAddress(place, identity, doubt)
        for place, identity in enumerate(identities)
        if (doubt := find_correction(identity))
    ]


async def resolve_posts(
    pool: asyncpg.Pool, hook: Hook, posts: Sequence[HookPost]
) -> list[HookPost]:
    """Return what the hook was told, with each doubtful address resolved by what the account knows.

    The account is asked once, and only if there are doubts. Raises ReadingTimeout if there are too
    many.
    """
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
    return await run_off_loop(hook.account, lambda: _resolve_posts(posts, known), is_long=many)


def _resolve_posts(posts: Sequence[HookPost], known: Mapping[str, bool]) -> list[HookPost]:
    time = ReadingDeadline()
    meant = []
    for post in posts:
        time.require_time_left()
        meant.append(post.for_account(known))
    return meant
