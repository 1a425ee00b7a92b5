"""Who did something, via which entry point: for the log, for jobs and for the table `activity`.

Neither contains a name. A key or a hook is named by its id, which no request can choose.
"""

from enum import StrEnum
from typing import NamedTuple


class ActorKind(StrEnum):
    """The kinds of actors. A key and a hook have an id."""

    KEY = "key"
    HOOK = "hook"
    LINK = "link"
    CLI = "cli"
    PYTHON = "python"


class Via(StrEnum):
    """The entry point that an actor used."""

    HTTP = "http"
    HOOK_EVENTS = "hook_events"
    HOOK_FORM = "hook_form"
    ONE_CLICK = "one_click"
    UNSUBSCRIBE_PAGE = "unsubscribe_page"
    CLI = "cli"
    PYTHON = "python"


class ActivityEvent(StrEnum):
    """The kinds of stored activity; the log event of each has the same name."""

    JOB_SUBMITTED = "job.submitted"
    JOB_PAUSED = "job.paused"
    JOB_RESUMED = "job.resumed"
    JOB_CANCELLED = "job.cancelled"
    PLAN_APPLIED = "plan.applied"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    HOOK_CREATED = "hook.created"
    HOOK_RENEWED = "hook.renewed"
    HOOK_REVOKED = "hook.revoked"
    ACCOUNT_CREATED = "account.created"
    ACCOUNT_SECRET_RENEWED = "account.secret_renewed"  # noqa: S105 - an act


class Actor(NamedTuple):
    """Who did something, via which entry point: `key:7`, `hook:3`, `link`, `cli` or `python`."""

    kind: ActorKind
    via: Via
    id: int | None = None

    def __str__(self) -> str:
        return self.kind.value if self.id is None else f"{self.kind.value}:{self.id}"

    def log_keys(self) -> dict[str, str]:
        """Return the keys that name the actor in a log line."""
        return {"actor": str(self), "via": self.via.value}


CLI = Actor(ActorKind.CLI, Via.CLI)
"""The command line."""

PYTHON = Actor(ActorKind.PYTHON, Via.PYTHON)
"""A program that calls producers by itself."""


def format_actor(kind: str | None, id_: int | None) -> str | None:
    """Return the one form in which an actor is shown; None where it is not known."""
    return kind if id_ is None else f"{kind}:{id_}"
