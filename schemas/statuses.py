"""The seventeen consent statuses of an email address, and their ranks.

The names are Keap's own, so that an export maps one to one (decision 0002).
"""

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """What may be sent to an address, and why."""

    SINGLE_OPT_IN = "single_opt_in"
    DOUBLE_OPT_IN = "double_opt_in"
    CONFIRMED = "confirmed"
    UNENGAGED_MARKETABLE = "unengaged_marketable"
    NON_MARKETABLE = "non_marketable"
    UNENGAGED_NON_MARKETABLE = "unengaged_non_marketable"
    LOCKDOWN = "lockdown"
    BOUNCE = "bounce"
    HARD_BOUNCE = "hard_bounce"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    SYSTEM = "system"
    ADMIN = "admin"
    MANUAL = "manual"
    LIST_UNSUBSCRIBE = "list_unsubscribe"
    FEEDBACK = "feedback"
    SPAM = "spam"


class StatusFacts(NamedTuple):
    """The constants of a status.

    `rank` is how strongly the status suppresses: a status of a higher rank replaces the present
    one, and any other leaves it. `propagated_rank` is the rank of a propagated status, or None if
    the status is never propagated.
    """

    marketable: bool
    rank: int
    propagated_rank: int | None
    meaning: str


FACTS: dict[Status, StatusFacts] = {
    Status.SINGLE_OPT_IN: StatusFacts(
        True, 0, None, "permission given, not confirmed by the recipient"
    ),
    Status.DOUBLE_OPT_IN: StatusFacts(
        True, 0, None, "recipient clicked a confirmation link (older form)"
    ),
    Status.CONFIRMED: StatusFacts(True, 0, None, "recipient confirmed the address"),
    Status.UNENGAGED_MARKETABLE: StatusFacts(
        True, 0, None, "was opted in, no engagement for some months"
    ),
    Status.NON_MARKETABLE: StatusFacts(
        False, 0, None, "no evidence of permission; one-to-one mail only"
    ),
    Status.UNENGAGED_NON_MARKETABLE: StatusFacts(False, 0, None, "no engagement for too long"),
    Status.LOCKDOWN: StatusFacts(False, 1, None, "added while the account was locked down"),
    Status.BOUNCE: StatusFacts(False, 1, None, "soft-bounced too often"),
    Status.HARD_BOUNCE: StatusFacts(False, 2, None, "permanent delivery failure"),
    Status.INVALID: StatusFacts(False, 2, None, "not a valid address"),
    Status.DEACTIVATED: StatusFacts(False, 2, None, "mailbox deactivated"),
    Status.SYSTEM: StatusFacts(
        False, 2, None, "suppressed by the system (bad or restricted domain)"
    ),
    Status.ADMIN: StatusFacts(False, 5, 3, "opted out by a user of the account"),
    Status.MANUAL: StatusFacts(False, 6, 4, "recipient used the opt-out link"),
    Status.LIST_UNSUBSCRIBE: StatusFacts(
        False, 6, None, "recipient used the mail program's unsubscribe"
    ),
    Status.FEEDBACK: StatusFacts(False, 7, None, "recipient complained to the mailbox provider"),
    Status.SPAM: StatusFacts(False, 7, None, "recipient reported spam on the account's own form"),
}

OPTED_OUT_RANK = 3
"""From this rank on an address is opted out, in its own right or by propagation."""

OWN_RIGHT_RANK = 5
"""From this rank on an address is opted out in its own right, and its opt-out is propagated."""

MARKETABLE = frozenset(status for status, facts in FACTS.items() if facts.marketable)
OPTED_OUT = frozenset(status for status, facts in FACTS.items() if facts.rank >= OPTED_OUT_RANK)
RECIPIENT_KINDS = (Status.MANUAL, Status.LIST_UNSUBSCRIBE, Status.FEEDBACK, Status.SPAM)
"""The statuses that only a recipient's own act sets."""


def rank_of(status: Status, *, is_propagated: bool) -> int:
    """Return how strongly `status` suppresses; `is_propagated` says that it was propagated.

    Raises ValueError for a status that cannot be propagated.
    """
    facts = FACTS[status]
    if not is_propagated:
        return facts.rank
    if facts.propagated_rank is None:
        raise ValueError(f"The status {status} is never propagated.")
    return facts.propagated_rank
