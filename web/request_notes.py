"""What a request's handlers note for its access log line (`web.middleware.access_log`)."""

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
    """What is known of one request besides its head and its response.

    It holds its caller's slot until it is answered or waits on purpose; `release` frees the slot.
    """

    # In the order in which they were noted, each once.
    jobs: dict[int, None] = field(default_factory=dict)
    hook: Hook | None = None
    problem: str | None = None
    waited: float = 0.0
    release: Release = lambda: None

    def to_log_keys(self) -> dict[str, Any]:
        """Return the keys of the log line that have something to say."""
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


# The tasks of a request have copies of its context, which share this object.
_notes: ContextVar[RequestNotes] = ContextVar("request_notes")


def begin_notes() -> RequestNotes:
    """Return new notes, which `get_notes` returns from now on within this request."""
    notes = RequestNotes()
    _notes.set(notes)
    return notes


def get_notes() -> RequestNotes:
    """Return the notes of the current request; outside of one, notes that are dropped."""
    return _notes.get(None) or RequestNotes()


def note_job(job_id: int) -> None:
    """Note a job that the request created or is about."""
    get_notes().jobs.setdefault(job_id)


def note_slot(release: Release) -> None:
    """Note the slot that the request holds; without a request, free it."""
    if (notes := _notes.get(None)) is None:
        release()
    else:
        notes.release = release


@contextmanager
def exclude_from_duration() -> Iterator[None]:
    """Free the slot, and count the time inside as time that the caller asked to wait."""
    notes = get_notes()
    notes.release()
    began = time.perf_counter()
    try:
        yield
    finally:
        notes.waited += time.perf_counter() - began
