"""What is known of the current request: its ids, its caller, and what its log line has."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from db.hooks import Hook
from producers.keys import Caller
from web.request_slots import Release


@dataclass(slots=True)
class RequestNotes:
    """What is known of one request besides its head and its response.

    The request holds a slot until it is answered or waits on purpose; `release` frees the slot.
    """

    correlation_id: str
    caller: Caller | None = None
    # In the order in which they were noted, each once.
    jobs: dict[int, None] = field(default_factory=dict)
    hook: Hook | None = None
    problem: str | None = None
    waited: float = 0.0
    is_aborted: bool = False
    release: Release = lambda: None

    def to_log_keys(self) -> dict[str, Any]:
        """Return the keys of the request's log line, without those that have nothing to say."""
        keys: dict[str, Any] = {
            "key": self.caller.key_id if self.caller else None,
            "correlation_id": self.correlation_id,
            "account": self.caller.account_id if self.caller else None,
        }
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
        if self.is_aborted:
            keys["aborted"] = True
        return keys


# The tasks of a request have copies of its context, which share this object.
_notes: ContextVar[RequestNotes] = ContextVar("request_notes")


def begin_notes(correlation_id: str) -> RequestNotes:
    """Return new notes, which `get_notes` returns from now on within this request."""
    notes = RequestNotes(correlation_id)
    _notes.set(notes)
    return notes


def get_notes() -> RequestNotes:
    """Return the notes of the current request; outside of one, notes that are dropped."""
    return _notes.get(None) or RequestNotes("")


def note_job(job_id: int) -> None:
    """Note a job that the request created or is about."""
    get_notes().jobs.setdefault(job_id)


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
