"""Whether an address that is formally valid is the one that is meant, which the account tells."""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from db import address_lists
from producers.hook_fields import HookPost
from producers.import_refusals import invalid_address
from producers.listed_addresses import Doubtful
from producers.long_work import in_turn
from schemas.addresses import Identity, doubt_about, implausible
from schemas.staging import Refusal

MANY = 100
"""More addresses than this are looked at in a thread, so that others are answered meanwhile."""


class Meant(NamedTuple):
    """Addresses that count as they are written, and those that are refused with a suggestion."""

    rows: list[tuple[int, Identity]]
    refusals: list[Refusal]


async def plausible(
    connection: asyncpg.Connection, account_id: int, doubtful: Sequence[Doubtful]
) -> Meant:
    """Tell apart which of the addresses are meant as they are written.

    One that the account knows is. Any other is refused where the doubt is certain, or where the
    account knows the one that is probably meant: it would be a new address, and nobody opted out.
    """
    rows: list[tuple[int, Identity]] = []
    refusals: list[Refusal] = []
    if not doubtful:
        return Meant(rows, refusals)
    keys = {each.identity.match_key for each in doubtful}
    keys |= {each.doubt.meant.match_key for each in doubtful}
    known = await address_lists.known_keys(connection, account_id, list(keys))
    for line, identity, (meant, certain) in doubtful:
        if identity.match_key not in known and (certain or meant.match_key in known):
            why = implausible(identity, meant)
            refusals.append(invalid_address(line, identity.address, why))
        else:
            rows.append((line, identity))
    return Meant(rows, refusals)


async def implausible_of(
    connection: asyncpg.Connection, account_id: int, identities: Sequence[Identity]
) -> list[tuple[int, str]]:
    """Return the places of the addresses that are not meant as they are written, and why not."""
    # Of many addresses in a thread: one that is not ASCII takes 0.1 ms.
    many = len(identities) > MANY
    doubtful = await in_turn(lambda: _doubtful(identities)) if many else _doubtful(identities)
    refused = {line for line, _, _ in (await plausible(connection, account_id, doubtful)).refusals}
    return [
        (each.line, str(implausible(each.identity, each.doubt.meant)))
        for each in doubtful
        if each.line in refused
    ]


def _doubtful(identities: Sequence[Identity]) -> list[Doubtful]:
    return [
        Doubtful(place, identity, doubt)
        for place, identity in enumerate(identities)
        if (doubt := doubt_about(identity))
    ]


async def meant_by(
    pool: asyncpg.Pool, account_id: int, posts: Sequence[HookPost]
) -> list[HookPost]:
    """Return what a hook was told, each address that may be another one as the account knows it.

    The account is asked only where that is not plain, and once for all of them.
    """
    keys = {key for post in posts for key in post.ambiguous_keys}
    if not keys:
        return list(posts)
    async with pool.acquire() as connection:
        known = await address_lists.known_keys(connection, account_id, list(keys))
    return [post.for_account(known) if post.ambiguous_keys else post for post in posts]
