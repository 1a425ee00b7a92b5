"""What a request's handlers note for its line in the log (`web.middleware.access_log`)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from db.hooks import Hook
from web.request_slots import Release


@dataclass(slots=True)
class RequestNotes:
    """What is known of one request besides what stands in its head and its answer. Until it is
    answered, or waits on purpose, it has a turn of its caller's, which `release` ends.
    """

    # In their order, each once.
    jobs: dict[int, None] = field(default_factory=dict)
    hook: Hook | None = None
    problem: str | None = None
    waited: float = 0.0
    release: Release | None = None

    def to_log_keys(self) -> dict[str, Any]:
        """Return the keys of the line; what there is nothing to say on is left out."""
        keys: dict[str, Any] = {}
        if self.jobs:
            keys["job"] = next(iter(self.jobs))
        if len(self.jobs) > 1:
            keys["jobs"] = len(self.jobs)
        if self.hook is not None:
            keys |= {"hook": self.hook.id, "account": self.hook.account_id}
        if self.problem is not None:
            keys["problem"] = self.problem
        if self.waited:
            keys["waited_ms"] = round(self.waited * 1000, 1)
        return keys


# The tasks that a request is worked in have copies of its context, which share this one object.
_notes: ContextVar[RequestNotes | None] = ContextVar("noted", default=None)


def begin_notes() -> RequestNotes:
    """Return what this request's handlers note from now on."""
    notes = RequestNotes()
    _notes.set(notes)
    return notes


def note_job(job_id: int) -> None:
    """Note a job that the request made or is about."""
    notes = _notes.get()
    if notes is not None:
        notes.jobs.setdefault(job_id)


def note_hook(hook: Hook) -> None:
    """Note the hook that the request came by."""
    if (notes := _notes.get()) is not None:
        notes.hook = hook


def note_problem(slug: str) -> None:
    """Note the problem that the request is answered by."""
    if (notes := _notes.get()) is not None:
        notes.problem = slug


def note_slot(release: Release) -> None:
    """Note the turn that the request has from now on."""
    if (notes := _notes.get()) is None:
        release()
    else:
        notes.release = release


def release_slot() -> None:
    """Let others of the same caller have the turn of this request."""
    notes = _notes.get()
    if notes is not None and notes.release is not None:
        notes.release()


@contextmanager
def exclude_from_duration() -> Iterator[None]:
    """Count the time inside as what the caller asked to wait, and not as the request's own."""
    release_slot()
    began = time.perf_counter()
    try:
        yield
    finally:
        if (notes := _notes.get()) is not None:
            notes.waited += time.perf_counter() - began
