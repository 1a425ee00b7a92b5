"""The outcomes of pairs with their reasons, and the states of jobs."""

from enum import StrEnum
from typing import Self


class MeaningEnum(StrEnum):
    """Words of a closed list, each declared as `NAME = word, meaning`."""

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Self:
        """Make the member, which equals its word."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member


class Outcome(StrEnum):
    """How one selected (contact, field) pair ended; a pair without an address counts as `empty`."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


class Cause(StrEnum):
    """Why an address has a result: the job selected it, or a sibling's opt-out was propagated."""

    DIRECT = "direct"
    PROPAGATED = "propagated"


class Reason(MeaningEnum):
    """Why an address was left as it was. A new action may bring reasons of its own."""

    ALREADY_MARKETABLE = "already_marketable", "it is marketable already"
    ALREADY_OPTED_OUT = (
        "already_opted_out",
        "its status already has the rank of this opt-out, or a higher one",
    )
    SAME_ADDRESS_IN_JOB = "same_address_in_job", "the job has changed the same address already"
    STATUS_KEPT = "status_kept", "the account has it already, and an import keeps its status"
    UNENGAGED = "unengaged", "its owner has not engaged for too long; ask for a new confirmation"
    LOCKED_DOWN = "locked_down", "it was added while the account was locked down"
    BOUNCED = "bounced", "it soft-bounced too often"
    HARD_BOUNCED = "hard_bounced", "mail to it failed for good"
    INVALID_ADDRESS = "invalid_address", "it is not a valid address"
    DEACTIVATED_MAILBOX = "deactivated_mailbox", "the mailbox was deactivated"
    SYSTEM_SUPPRESSED = "system_suppressed", "the system suppresses it (bad or restricted domain)"
    OPTED_OUT_BY_ACCOUNT = "opted_out_by_account", "a user of the account opted it out"
    OPTED_OUT_BY_RECIPIENT = "opted_out_by_recipient", "the recipient opted out"
    COMPLAINED = "complained", "the recipient complained of spam"
    SIBLING_OPTED_OUT = "sibling_opted_out", "another address of the same contact is opted out"
    CONTACT_NOT_FOUND = "contact_not_found", "the account has no contact with this id"
    INTERNAL_ERROR = "internal_error", "Sluice failed on this contact, and stored the error"


class JobState(StrEnum):
    """The state of a job. `STATE_CHANGES` lists which may follow."""

    PLANNING = "planning"
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


FINAL_STATES = frozenset({JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED})

STATE_CHANGES: dict[tuple[JobState, JobState], str] = {
    (JobState.PLANNING, JobState.RUNNING): "its selection was frozen, and any plan confirmed",
    (JobState.PLANNING, JobState.PAUSED): "it was paused before its selection was frozen",
    (JobState.PLANNING, JobState.CANCELLED): "it was cancelled before its selection was frozen",
    (JobState.PLANNING, JobState.FAILED): "its selection could not be frozen",
    (JobState.PLANNING, JobState.PLANNED): "it is planned first, and its forecast was made",
    (JobState.PLANNED, JobState.PLANNING): "its plan was confirmed; its forecast is made again",
    (JobState.PLANNED, JobState.CANCELLED): "it was cancelled instead of being confirmed",
    (JobState.RUNNING, JobState.PAUSED): "it was paused",
    (JobState.RUNNING, JobState.COMPLETED): "no chunk was left and the counts added up",
    (JobState.RUNNING, JobState.CANCELLED): "it was cancelled",
    (JobState.RUNNING, JobState.FAILED): "its first contacts failed, or its counts did not add up",
    (JobState.PAUSED, JobState.RUNNING): "it was resumed",
    (JobState.PAUSED, JobState.PLANNING): "it was resumed before its selection was frozen",
    (JobState.PAUSED, JobState.CANCELLED): "it was cancelled",
}
