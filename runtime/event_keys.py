"""The keys of log lines, with their types and meanings, and how an event is declared.

No key carries an address, a person's name or a secret. A value is null only where that is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

COMMON_KEYS: dict[str, str] = {
    "timestamp": "when, in UTC",
    "level": "debug, info, warning or error",
    "event": "the event's name",
    "correlation_id": "given by the submitter or made for the job, and the same up to its last"
    " chunk; absent if the line is about no job",
    "exception": "an exception's type, its causes and where in the code it was raised; never its"
    " text, which may quote data",
    "truncated": "true if values were shortened to keep the line small",
    "worker": "the worker process that wrote the line, or that the line is about: its dyno or host,"
    " and its process id",
    "web": "the web process that wrote the line: its dyno or host, and its process id",
}
"""What any line may have besides its event's own keys."""

_TEXTS = {
    "action": "the action's name",
    "kind": "manual, list_unsubscribe, feedback or spam",
    "error": "the type of the error; null if there was none",
    "state": "the job's state now",
    "reason": "why, as a word from a closed list",
    "method": "the request's method, such as GET",
    "route": "the path's pattern, never the path; null if no route matches",
    "problem": "the last part of the problem's type; absent if the response was no problem",
    "task": "the periodic task that raised the error",
    "stack": "where in the code the event loop was, the innermost place first",
    "queue": "the queue's name",
    "logger": "the library's logger",
    "message": "the library's message, without anything that looks like an address",
    "version": "the version of Sluice",
    "commit": "the commit that runs; null if neither the platform nor a checkout tells it",
    "location": "where in the code the error was raised, the innermost place first",
    "next_step": "what happens next: retry (another attempt), split (into two halves), or rejected"
    " (its only item)",
    "process": "worker, web or release (`sluice migrate`)",
    "cause": "the type of the error that caused it; null if there is none",
    "before": "the value before",
    "after": "the value now",
    "setting": "the setting's name",
    "own_value": "its value in this process",
    "stored_value": "its value in the database, which other processes use",
    "remedy": "how to make the values equal",
    "actor": "who did it: key or hook with its id (key:7, hook:3), link, cli or python",
    "via": "the entry point: http, hook_events, hook_form, one_click, unsubscribe_page, cli or"
    " python",
    "request_correlation_id": "the correlation id of the request, as on its request.answered; null"
    " if there was no request",
    "detected_by": "which process detected the loss",
}
_INTEGERS = {
    "job": "the job's id",
    "jobs": "how many jobs the request created or was about; absent if fewer than two",
    "account": "the account's id",
    "contacts_listed": "how many contact ids were listed; null if none were",
    "addresses_listed": "how many addresses were listed; null if none were",
    "selected": "how many pairs (of a contact and a field) it has",
    "chunks": "the number of chunks",
    "applied": "how many pairs were changed; in a forecast, would be",
    "unchanged": "how many pairs needed, or would need, no change",
    "rejected": "how many pairs were, or would be, rejected",
    "empty": "how many pairs have no address",
    "propagated": "how many siblings an opt-out was, or would be, propagated to",
    "chunk": "the chunk's number within the job, from 1",
    "items": "how many items it had",
    "rows": "how many rows of the file were processed",
    "recognized": "how many of those rows were about existing contacts",
    "rejected_rows": "how many rows of the file were rejected",
    "attempt": "the number of the attempt, from 1",
    "hook": "the hook's id",
    "http_status": "the receiver's HTTP status; null if there was no response",
    "key": "the API key's id",
    "threads": "how many messages it processes at a time",
    "lanes": "how many messages were sent for it",
    "pending_chunks": "how many chunks wait for a worker; a job without its plan counts as one",
    "running_jobs": "how many of its jobs are running",
    "exit_status": "the exit status of the process",
    "count": "how many since the last such line",
    "open_connections": "how many are open now",
    "ended": "how many slow ones were ended with 408 since the last such line, to make room",
    "due_webhooks": "how many completion webhooks wait to be delivered",
    "planning_jobs": "how many of these are jobs that wait for their plan",
    "tolerance": "by how much each count may differ from the confirmed one",
    "former_days": "for how many days the former secret and form URL remain valid",
}
_NUMBERS = {
    "seconds": "how long it took from its submission",
    "duration_ms": "how long it took, in milliseconds",
    "waited_ms": "how long it waited on purpose, for a job to end (`Prefer: wait`) or for events of"
    " a stream; absent if it did not",
    "retry_in_seconds": "the time until the next attempt; null if there is none",
    "oldest_seconds": "how long the oldest of them has waited",
    "unattended_for_seconds": "how long ago a worker last measured or swept",
    "work_seconds": "how long the work would take, one chunk after another, at the recent pace",
}
_LISTS = {
    "fields": "the selected fields: email1, email2, email3; or address if it lists addresses",
    "selected_by": "the conditions of its selection: all, tag, import_job, statuses, contacts,"
    " addresses",
    "parts": "the parts concerned: address, kind, note, occurred_at",
}
_BOOLEANS = {"aborted": "true if a stream was cut off because Postgres no longer answered"}
_OBJECTS = {"reasons": "the number of results for each reason"}

KEYS: dict[str, str] = {**_TEXTS, **_INTEGERS, **_NUMBERS, **_LISTS, **_BOOLEANS, **_OBJECTS}
"""What each key of an event means, unless the event gives it a meaning of its own."""


KEY_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys((*COMMON_KEYS, *_TEXTS), str),
    **dict.fromkeys(_INTEGERS, int),
    **dict.fromkeys(_NUMBERS, (int, float)),
    **dict.fromkeys(_LISTS, list),
    **dict.fromkeys(("truncated", *_BOOLEANS), bool),
    **dict.fromkeys(_OBJECTS, dict),
}
"""The one type that each key has in every event, if it is not null. Tests check each line."""


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of log line, with the meaning of each of its keys."""

    name: str
    meaning: str
    keys: Mapping[str, str] = field(hash=False)


DECLARED_EVENTS: dict[str, Event] = {}
"""Every event that `runtime.events` has declared, by its name."""


def declare(name: str, meaning: str, keys: str = "", **meanings: str) -> Event:
    """Declare an event that has `keys` with their usual meanings, and keys with `meanings`."""
    assert name not in DECLARED_EVENTS
    assert meanings.keys() <= KEYS.keys()
    event = Event(name, meaning, {key: KEYS[key] for key in keys.split()} | meanings)
    DECLARED_EVENTS[name] = event
    return event
