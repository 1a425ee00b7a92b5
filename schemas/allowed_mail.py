"""What may be sent to an address, by its status."""

from enum import StrEnum

from schemas.statuses import FACTS, MARKETABLE, Status

_SUPPRESSED_RANK = 2
"""From this rank on nothing may be sent: mail cannot arrive, or is not wanted."""


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
    seed 004). From a hard bounce on, mail does not arrive or is not wanted.
    """
    if status in MARKETABLE:
        return AllowedMail.BROADCASTS
    if FACTS[status].rank < _SUPPRESSED_RANK:
        return AllowedMail.ONE_TO_ONE
    return AllowedMail.NOTHING
