"""Activity as people and programs see it: `--json` on the command line and HTTP give this JSON."""

from datetime import datetime
from typing import Any

from producers.job_view import ActorField, ViaField, View
from schemas.actors import ActivityEvent


class ActivityView(View):
    """What an actor did to a job, a key, a hook or the account."""

    id: int
    account: str
    """The account's name."""
    at: datetime
    event: ActivityEvent
    """What was done."""
    actor: ActorField
    via: ViaField
    job_id: int | None
    """The job, if it is about one."""
    key_id: int | None
    """The API key, if it is about one."""
    hook_id: int | None
    """The hook, if it is about one."""
    correlation_id: str | None
    """That of the request, if there was one."""
    detail: dict[str, Any] | None
    """For a plan the confirmed counts, for a key its scopes."""
