"""Whether an opt-out holds, in the moment after it was said to be applied."""

from tests.chaos.acknowledgements import Violation
from tests.chaos.contact_lists import LIMIT
from tests.chaos.observer import Observer

OPT_OUT_IN_FORCE = "an opt-out that is said to be applied is in force, for all that it covers"


async def find_ineffective_opt_outs(
    observer: Observer,
    account: str,
    *,
    key: str,
    address_id: int | None = None,
    match_key: str | None = None,
) -> list[Violation]:
    """The addresses for which it does not hold; it is known by its address's id or match key."""
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
