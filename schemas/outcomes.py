"""What can become of a selected address, and why; and the states of jobs and chunks."""

from enum import StrEnum


class Outcome(StrEnum):
    """How one selected (contact, field) pair ended; a pair without an address counts as `empty`."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


class Cause(StrEnum):
    """Whether the job selected the address, or an opt-out of a sibling was propagated to it."""

    DIRECT = "direct"
    PROPAGATED = "propagated"


class Reason(StrEnum):
    """Why an address was left as it was. A new action may bring reasons of its own."""

    ALREADY_MARKETABLE = "already_marketable"
    ALREADY_OPTED_OUT = "already_opted_out"
    SAME_ADDRESS_IN_JOB = "same_address_in_job"
    STATUS_KEPT = "status_kept"
    UNENGAGED = "unengaged"
    LOCKED_DOWN = "locked_down"
    BOUNCED = "bounced"
    HARD_BOUNCED = "hard_bounced"
    INVALID_ADDRESS = "invalid_address"
    DEACTIVATED_MAILBOX = "deactivated_mailbox"
    SYSTEM_SUPPRESSED = "system_suppressed"
    OPTED_OUT_BY_ACCOUNT = "opted_out_by_account"
    OPTED_OUT_BY_RECIPIENT = "opted_out_by_recipient"
    COMPLAINED = "complained"
    SIBLING_OPTED_OUT = "sibling_opted_out"
    CONTACT_NOT_FOUND = "contact_not_found"
    INTERNAL_ERROR = "internal_error"


REASON_MEANINGS: dict[str, str] = {
    Reason.ALREADY_MARKETABLE: "it could get broadcasts already",
    Reason.ALREADY_OPTED_OUT: "it was opted out at least as strongly already",
    Reason.SAME_ADDRESS_IN_JOB: "the job had changed the same address already",
    Reason.STATUS_KEPT: "it was known already, and the import gives it no other status",
    Reason.UNENGAGED: "its owner has not engaged for too long; ask for a new confirmation",
    Reason.LOCKED_DOWN: "it was added while the account was locked down",
    Reason.BOUNCED: "it soft-bounced too often",
    Reason.HARD_BOUNCED: "mail to it failed for good",
    Reason.INVALID_ADDRESS: "it is not a valid address",
    Reason.DEACTIVATED_MAILBOX: "the mailbox was deactivated",
    Reason.SYSTEM_SUPPRESSED: "the system suppresses it (bad or restricted domain)",
    Reason.OPTED_OUT_BY_ACCOUNT: "a user of the account opted it out",
    Reason.OPTED_OUT_BY_RECIPIENT: "the recipient opted out",
    Reason.COMPLAINED: "the recipient complained of spam",
    Reason.SIBLING_OPTED_OUT: "another address of the same person is opted out",
    Reason.CONTACT_NOT_FOUND: "the account has no contact with this id",
    Reason.INTERNAL_ERROR: "Sluice failed on this contact; the error's text is kept with it",
}


class JobState(StrEnum):
    """Where a job stands. `STATE_CHANGES` lists what may follow."""

    PLANNING = "planning"
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


FINAL_STATES = frozenset({JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED})

STATE_CHANGES: dict[tuple[JobState, JobState], str] = {
    (JobState.PLANNING, JobState.RUNNING): "the selection was frozen into chunks, and confirmed"
    " where it was planned first",
    (JobState.PLANNING, JobState.PAUSED): "someone paused it before its selection was frozen",
    (JobState.PLANNING, JobState.CANCELLED): "someone cancelled it before its selection was frozen",
    (JobState.PLANNING, JobState.FAILED): "its selection could not be frozen",
    (JobState.PLANNING, JobState.PLANNED): "it is planned first, and what it would do was counted",
    (JobState.PLANNED, JobState.PLANNING): "someone confirmed what it would do, which is counted"
    " once more before it runs",
    (JobState.PLANNED, JobState.CANCELLED): "someone cancelled it instead of confirming it",
    (JobState.RUNNING, JobState.PAUSED): "someone paused it",
    (JobState.RUNNING, JobState.COMPLETED): "no chunk was left and the counts added up",
    (JobState.RUNNING, JobState.CANCELLED): "someone cancelled it",
    (JobState.RUNNING, JobState.FAILED): "nothing of it could be done, contact by contact, or no"
    " chunk was left and the counts did not add up",
    (JobState.PAUSED, JobState.RUNNING): "someone resumed it",
    (JobState.PAUSED, JobState.PLANNING): "someone resumed it before its selection was frozen",
    (JobState.PAUSED, JobState.CANCELLED): "someone cancelled it",
}


class ChunkState(StrEnum):
    """Where a chunk stands: a `split` chunk was replaced by two halves after failing too often."""

    PENDING = "pending"
    DONE = "done"
    SPLIT = "split"
