"""Check that an opt-out is in force as soon as the service acknowledges it."""

from tests.chaos.acknowledgements import Violation
from tests.chaos.contact_lists import LIMIT
from tests.chaos.observer import Observer

OPT_OUT_IN_FORCE = "an opt-out that was answered as applied is in force for all its addresses"


async def find_ineffective_opt_outs(
    observer: Observer,
    account: str,
    *,
    key: str,
    address_id: int | None = None,
    match_key: str | None = None,
) -> list[Violation]:
    """Return a violation for each address that is not opted out.

    Pass either the id or the match key of the acknowledged address.
    """
    left = await observer.rows(
        "find_ineffective_opt_outs",
        account=account,
        address_id=address_id,
        match_key=match_key,
        limit=LIMIT,
    )
    return [
        Violation(
            OPT_OUT_IN_FORCE, f"address {row['id']} was {row['status']} when {key!r} was answered"
        )
        for row in left
    ]
