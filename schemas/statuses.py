"""The seventeen consent statuses of an email address, and their ranks.

The names are Keap's own, so that an export maps one to one (decision 0002).
"""

from enum import StrEnum
from typing import Self


class Status(StrEnum):
    """What may be sent to an address, and why."""

    rank: int
    """How strongly it suppresses: a status of a higher rank replaces the present one, and any other
    leaves it."""
    meaning: str
    propagated_rank: int | None
    """The rank of a propagated status; None if the status is never propagated."""

    def __new__(
        cls, word: str, rank: int = 0, meaning: str = "", propagated_rank: int | None = None
    ) -> Self:
        """Make the member, which equals its word."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.rank, member.meaning, member.propagated_rank = rank, meaning, propagated_rank
        return member

    SINGLE_OPT_IN = "single_opt_in", 0, "permission given, not confirmed by the recipient"
    DOUBLE_OPT_IN = "double_opt_in", 0, "recipient clicked a confirmation link (older form)"
    CONFIRMED = "confirmed", 0, "recipient confirmed the address"
    UNENGAGED_MARKETABLE = "unengaged_marketable", 0, "was opted in, no engagement for some months"
    NON_MARKETABLE = "non_marketable", 0, "no evidence of permission; one-to-one mail only"
    UNENGAGED_NON_MARKETABLE = "unengaged_non_marketable", 0, "no engagement for too long"
    LOCKDOWN = "lockdown", 1, "added while the account was locked down"
    BOUNCE = "bounce", 1, "soft-bounced too often"
    HARD_BOUNCE = "hard_bounce", 2, "permanent delivery failure"
    INVALID = "invalid", 2, "not a valid address"
    DEACTIVATED = "deactivated", 2, "mailbox deactivated"
    SYSTEM = "system", 2, "suppressed by the system (bad or restricted domain)"
    ADMIN = "admin", 5, "opted out by a user of the account", 3
    MANUAL = "manual", 6, "recipient used the opt-out link", 4
    LIST_UNSUBSCRIBE = "list_unsubscribe", 6, "recipient used the mail program's unsubscribe"
    FEEDBACK = "feedback", 7, "recipient complained to the mailbox provider"
    SPAM = "spam", 7, "recipient reported spam on the account's own form"


OPTED_OUT_RANK = 3
"""From this rank on an address is opted out, in its own right or by propagation."""

OWN_RIGHT_RANK = 5
"""From this rank on an address is opted out in its own right, and its opt-out is propagated."""

MARKETABLE = frozenset(
    {Status.SINGLE_OPT_IN, Status.DOUBLE_OPT_IN, Status.CONFIRMED, Status.UNENGAGED_MARKETABLE}
)
OPTED_OUT = frozenset(status for status in Status if status.rank >= OPTED_OUT_RANK)
OWN_RIGHT = tuple(status for status in Status if status.rank >= OWN_RIGHT_RANK)
"""The statuses of an address that is opted out in its own right, unless they were propagated."""

RECIPIENT_KINDS = (Status.MANUAL, Status.LIST_UNSUBSCRIBE, Status.FEEDBACK, Status.SPAM)
"""The statuses that only a recipient's own act sets."""


def rank_of(status: Status, *, is_propagated: bool) -> int:
    """Return how strongly `status` suppresses; `is_propagated` says that it was propagated.

    Raises ValueError for a status that cannot be propagated.
    """
    if not is_propagated:
        return status.rank
    if status.propagated_rank is None:
        raise ValueError(f"The status {status} is never propagated.")
    return status.propagated_rank


class AllowedMail(StrEnum):
    """What may be sent to an address at most."""

    BROADCASTS = "broadcasts"
    ONE_TO_ONE = "one_to_one"
    NOTHING = "nothing"


def allowed_mail(status: Status) -> AllowedMail:
    """Return what may be sent to an address of this status.

    Broadcasts go to marketable addresses only. One-to-one mail is still allowed if only permission
    or engagement is missing, or if mail bounced for a while. Those are the statuses that suppress
    least ("can receive individual one-to-one emails, but they cannot receive broadcast emails",
    seed 004: `docs/glossary.md`). From a hard bounce on, mail does not arrive or is not wanted.
    """
    if status in MARKETABLE:
        return AllowedMail.BROADCASTS
    return AllowedMail.ONE_TO_ONE if status.rank <= Status.BOUNCE.rank else AllowedMail.NOTHING
