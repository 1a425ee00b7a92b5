"""Every event that Sluice logs: its name, when it is written, and what its keys mean.

The list is closed. Names are dotted and in the past tense; facts are keys. No key carries an
address, a person's name or a secret. `docs/log-events.md` is checked against this file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of log line. Keys may be absent where a line has nothing to say on them."""

    name: str
    meaning: str
    keys: Mapping[str, str] = field(hash=False)


EVENTS: dict[str, Event] = {}
"""Every event by its name."""

COMMON_KEYS: dict[str, str] = {
    "timestamp": "when, in UTC",
    "level": "debug, info, warning or error",
    "event": "the event's name",
    "correlation_id": "given by the submitter, or made for the job; the same from there to its"
    " last chunk; absent where no job is concerned",
    "exception": "an exception's kind, its causes and where in the code it arose; never its"
    " text, which may quote data",
    "truncated": "true when values were shortened to keep the line small",
    "worker": "which worker process wrote the line: its dyno or host, and its process id; where a"
    " line is about another process than its writer, that one",
    "web": "which web process wrote the line: its dyno or host, and its process id",
}
"""What any line may carry besides its event's own keys."""


def undeclared_keys(event: str, keys: Iterable[str]) -> set[str]:
    """Return which of the `keys` the event does not declare."""
    declared = EVENTS[event].keys if event in EVENTS else {}
    return {key for key in keys if key not in declared and key not in COMMON_KEYS}


KEY_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        (
            *("timestamp", "level", "event", "correlation_id", "exception", "worker", "web"),
            *("action", "kind", "error", "state", "reason", "method", "route", "problem", "task"),
            *("stack", "queue", "logger", "message", "version", "commit", "location", "next_step"),
            *("process", "cause", "before", "after", "setting", "own_value", "stored_value"),
            *("remedy", "actor", "via", "request_correlation_id", "detected_by"),
        ),
        str,
    ),
    **dict.fromkeys(
        (
            *("job", "jobs", "account", "contacts_listed", "addresses_listed", "selected"),
            *("chunks", "applied", "unchanged", "rejected", "empty", "propagated", "chunk"),
            *(
                "contacts",
                "recognized",
                "rejected_rows",
                "refused",
                "attempt",
                "hook",
                "http_status",
                "key",
            ),
            *("threads", "lanes", "pending_chunks", "running_jobs", "exit_status"),
            *("count", "open_connections", "ended", "due_webhooks", "planning_jobs", "tolerance"),
            "former_days",
        ),
        int,
    ),
    **dict.fromkeys(
        (
            *("seconds", "duration_ms", "waited_ms", "retry_in_seconds", "oldest_seconds"),
            *("unattended_for_seconds", "work_seconds"),
        ),
        (int, float),
    ),
    **dict.fromkeys(("fields", "selected_by", "parts"), list),
    **dict.fromkeys(("truncated", "aborted"), bool),
    "reasons": dict,
}
"""The one type that each key has in every event, wherever it is not null."""


def mistyped_keys(keys: Mapping[str, object]) -> set[str]:
    """Return those of `keys` whose value is of another type than that key has."""
    return {
        key
        for key, value in keys.items()
        if key in KEY_TYPES and value is not None and not _has_type(value, KEY_TYPES[key])
    }


def _has_type(value: object, wanted: type | tuple[type, ...]) -> bool:
    # Python takes true for a number.
    return isinstance(value, wanted) and (isinstance(value, bool) is (wanted is bool))


def _declare(name: str, meaning: str, **keys: str) -> Event:
    event = Event(name, meaning, keys)
    assert name not in EVENTS
    EVENTS[name] = event
    return event


_JOB = {
    "job": "the job's id",
    "account": "the id of the account that the job belongs to",
    "action": "the bulk action's name",
}
_CHUNK = {**_JOB, "chunk": "the chunk's number within the job, from 1 on"}
_ERROR = {"error": "the kind of error"}
_CURRENT_CHUNK = {
    "job": "the job whose chunk was being worked; absent where it was none's",
    "account": "the account's id",
    "action": "the bulk action's name",
    "chunk": "the number of that chunk",
}

_ACTOR = {
    "actor": "who asked: key or hook and its id (key:7, hook:3), link, cli or python",
    "via": "by which way in: http, hook_events, hook_form, one_click, unsubscribe_page, cli or"
    " python",
}
_REQUEST = {
    "request_correlation_id": "the correlation id of the request that asked, as on its"
    " request.answered; null where there was none"
}
_LOCATION = {"location": "where in the code it arose, the innermost place first"}
_VERSION = {
    "version": "the version of Sluice",
    "commit": "the commit that runs; null where neither the platform nor a checkout tells it",
}

JOB_SUBMITTED = _declare(
    "job.submitted",
    "A job was stored; from here on it will be worked, whatever fails.",
    **_JOB,
    fields="which of email1, email2 and email3 it selects; address where it lists addresses",
    selected_by="by what it selects: all, tag, import_job, statuses, contacts, addresses",
    contacts_listed="how many contact ids were listed; null where none were",
    addresses_listed="how many addresses were listed; null where none were",
    **_ACTOR,
)
OPT_OUT_RECEIVED = _declare(
    "opt_out.received",
    "A recipient's own opt-out was acknowledged; from here on it wins over everything.",
    **_JOB,
    kind="manual, list_unsubscribe, feedback or spam",
    **_ACTOR,
)
OPT_OUT_DEFERRED = _declare(
    "opt_out.deferred",
    "An opt-out could not be applied while the caller waited; its job is stored, and workers begin"
    " with it before all other work.",
    **_JOB,
    error="what kept it from being applied at once",
)
JOB_PLANNED = _declare(
    "job.planned",
    "A job's selection was frozen into chunks.",
    **_JOB,
    selected="how many (contact, field) pairs it has",
    chunks="how many chunks they were laid in",
)
_FORECAST = {
    "applied": "how many pairs the job would change",
    "unchanged": "how many it would find as they are to be",
    "rejected": "how many it would refuse",
    "empty": "how many contacts have no address in the field",
    "propagated": "how many further addresses its opt-outs would spread to",
}
PLAN_COUNTED = _declare(
    "plan.counted",
    "What a job that is planned first would do was counted; it waits for somebody to confirm that.",
    **_JOB,
    **_FORECAST,
)
PLAN_APPLIED = _declare(
    "plan.applied",
    "A person confirmed what a planned job would do; a worker counts that once more.",
    **_JOB,
    tolerance="by how many addresses each count may differ from what the person saw",
    **_ACTOR,
    **_REQUEST,
)
PLAN_CONFIRMED = _declare(
    "plan.confirmed",
    "What a person confirmed of a planned job still holds; the job runs.",
    **_JOB,
    **_FORECAST,
)
PLAN_DRIFTED = _declare(
    "plan.drifted",
    "Somebody has confirmed what a planned job would do, and that does not hold any more; it waits"
    " for them to look again.",
    **_JOB,
    **_FORECAST,
)
JOB_STARTED = _declare("job.started", "A job's first chunk was about to be worked.", **_JOB)
JOB_PAUSED = _declare(
    "job.paused",
    "Someone paused a job; not one more of its addresses changes.",
    **_JOB,
    state="the job's state now",
    **_ACTOR,
    **_REQUEST,
)
JOB_RESUMED = _declare(
    "job.resumed",
    "Someone resumed a paused job.",
    **_JOB,
    state="the job's state now",
    **_ACTOR,
    **_REQUEST,
)
JOB_CANCELLED = _declare(
    "job.cancelled",
    "Someone cancelled a job; not one more of its addresses changes.",
    **_JOB,
    state="the job's state now",
    **_ACTOR,
    **_REQUEST,
)
_COUNTS = {
    "applied": "how many pairs were changed",
    "unchanged": "how many pairs needed no change",
    "empty": "how many pairs had no address",
    "propagated": "how many further addresses an opt-out spread to",
}
JOB_COMPLETED = _declare(
    "job.completed",
    "A job ended, and all its pairs are accounted for.",
    **_JOB,
    **_COUNTS,
    selected="how many (contact, field) pairs it had",
    rejected="how many pairs were refused",
    seconds="how long it took from its submission",
)
JOB_FAILED = _declare(
    "job.failed",
    "A job ended because its selection could not be frozen, nothing of it could be done, or its"
    " counts did not add up.",
    **_JOB,
    **_ERROR,
)
JOB_ACTION_UNKNOWN = _declare(
    "job.action_unknown",
    "A job was left for a newer worker: this one does not know its action.",
    **_JOB,
)
IMPORT_COMPLETED = _declare(
    "import.completed",
    "An import ended; its contacts are there.",
    **_JOB,
    contacts="how many rows of its file were worked",
    recognized="how many of those rows were about contacts that the account had",
    rejected_rows="how many rows of its file were refused",
)
CHUNK_PROCESSED = _declare(
    "chunk.processed",
    "A chunk was committed: the canonical line of the work.",
    **_JOB,
    chunk="the chunk's number within the job, from 1 on",
    **_COUNTS,
    rejected="how many pairs were refused",
    reasons="how many of them for each reason",
    duration_ms="how long its transaction took, in milliseconds",
    attempt="which attempt succeeded, from 1 on",
)
CHUNK_FAILED = _declare(
    "chunk.failed",
    "The work on a chunk raised and was rolled back; the attempt counts.",
    **_CHUNK,
    attempt="which attempt this was, from 1 on",
    **_ERROR,
    **_LOCATION,
    next_step="what becomes of it: again (it is tried again), split (into two halves), or refused"
    " (its one contact is)",
    retry_in_seconds="how long after this the next attempt is; null where there is none",
)
CHUNK_INTERRUPTED = _declare(
    "chunk.interrupted",
    "The work on a chunk was rolled back through no fault of its own, or its commit was not"
    " confirmed; the attempt does not count.",
    **_CHUNK,
    **_ERROR,
    **_LOCATION,
)
CHUNK_SPLIT = _declare(
    "chunk.split",
    "A chunk that failed too often was replaced by two halves.",
    **_CHUNK,
    contacts="how many contacts it had",
)
_WEBHOOK = {
    "job": "the job's id",
    "account": "the id of the account that the job belongs to",
    "attempt": "which attempt this was, from 1 on",
    "http_status": "the HTTP status of the receiver's answer; null where there was none",
}
WEBHOOK_DELIVERED = _declare(
    "webhook.delivered",
    "The receiver of a completion notice took it. After a kill it may come again.",
    **_WEBHOOK,
    duration_ms="how long the receiver took, in milliseconds",
)
WEBHOOK_FAILED = _declare(
    "webhook.failed",
    "A completion notice was not taken, and will be tried again.",
    **_WEBHOOK,
    error="the kind of error; null where the receiver answered",
    retry_in_seconds="how long after this the next attempt is",
)
WEBHOOK_ABANDONED = _declare(
    "webhook.abandoned",
    "A completion notice was given up: it was tried too often, or its receiver said 410 (gone).",
    **_WEBHOOK,
    error="the kind of error; null where the receiver answered",
)
WEBHOOK_WITHHELD = _declare(
    "webhook.withheld",
    "A completion notice was due, and this worker has no SIGNING_KEYS to sign it with; it waits."
    " Written once per process.",
)
_KEY = {"key": "the API key's id", "account": "the id of the account that the key belongs to"}
KEY_CREATED = _declare("key.created", "An API key was made.", **_KEY, **_ACTOR)
KEY_REVOKED = _declare(
    "key.revoked",
    "An API key was revoked; web processes refuse it a second later.",
    **_KEY,
    **_ACTOR,
)
_HOOK = {"hook": "the hook's id", "account": "the id of the account that the hook belongs to"}
HOOK_CREATED = _declare("hook.created", "A hook was made.", **_HOOK, **_ACTOR)
HOOK_RENEWED = _declare(
    "hook.renewed",
    "A hook got another secret and form URL.",
    **_HOOK,
    former_days="for how many days the former ones count beside them",
    **_ACTOR,
)
HOOK_REVOKED = _declare(
    "hook.revoked", "A hook was revoked; what is posted to it is refused.", **_HOOK, **_ACTOR
)
ACCOUNT_CREATED = _declare(
    "account.created", "An account was added.", account="the account's id", **_ACTOR
)
ACCOUNT_SECRET_RENEWED = _declare(
    "account.secret_renewed",
    "An account got another secret for completion notices; they are signed with it from now on.",
    account="the account's id",
    **_ACTOR,
)
HOOK_REFUSED = _declare(
    "hook.refused",
    "What was posted to a hook did not count, and nothing was stored of it.",
    **_HOOK,
    reason="revoked, invalid_token, invalid_signature, stale_timestamp, malformed, or key_reused"
    " (an id came again with something else)",
)
HOOK_ADJUSTED = _declare(
    "hook.adjusted",
    "What was posted to a hook was applied, though a part of it was passed over or read otherwise.",
    **_HOOK,
    parts="which parts: address, kind, note, occurred_at",
)
PEER_LIMITED = _declare(
    "peer.limited",
    "A network address sent too many wrong keys, signatures or links: more of them are answered 429"
    " without asking Postgres, and what is right is not held up. Written once a minute at most.",
    count="how often the limit was reached since this was last written, by all peers together",
)
UPLOAD_FAILED = _declare(
    "upload.failed",
    "A file that was being uploaded could not be kept on this process's disk; its caller was told"
    " 507, and nothing was stored of it.",
    key="the id of the API key",
    account="the id of the account that the key belongs to",
    error="the system's name for what was wrong, such as ENOSPC",
)
WEB_STARTED = _declare("web.started", "A web process serves requests.", **_VERSION)
WEB_STOPPED = _declare("web.stopped", "A web process ended as it was asked to.")
PROCESS_REFUSED_TO_START = _declare(
    "process.refused_to_start",
    "A process did not begin its work, and ended; what it wrote to standard error says why.",
    process="worker, web or release (`sluice migrate`)",
    **_ERROR,
    cause="the kind of error behind it; null where there is none",
    exit_status="with what status it ended",
    message="what it said; null where that may quote a server or its address",
)
DATABASE_MIGRATED = _declare(
    "database.migrated",
    "`sluice migrate` has brought the database to this version's revision, or found it there.",
    before="the revision before; null where the database was empty",
    after="the revision now",
    **_VERSION,
)
SETTING_DIFFERS = _declare(
    "setting.differs",
    "A process that starts has another value of a setting that has to be the same for all.",
    setting="the setting's name",
    own_value="its value in this process",
    stored_value="the value that the database keeps, with which the others work",
    remedy="how they are made the same",
)
SETTING_CHANGED = _declare(
    "setting.changed",
    "`sluice migrate` has put a value of a setting in force that has to be the same for all.",
    setting="the setting's name",
    before="the value before",
    after="the value now",
)
REQUEST_ANSWERED = _declare(
    "request.answered",
    "A web process has answered a request, or sent the last of a stream.",
    method="GET, POST and so on",
    route="the path's pattern, never the path; null where there is none",
    http_status="0 where the caller had left before",
    duration_ms="how long it took in milliseconds, without what it waited on purpose",
    waited_ms="for how long it waited on purpose, for a job to end (`Prefer: wait`) or for news of"
    " one (a stream of events); absent where it did not",
    job="the id of the job that it made or was about, the first where it made several; all of them"
    " have its correlation id",
    jobs="how many jobs it made or was about; absent where that is one or none",
    problem="the last part of the problem's type; absent where the answer was none",
    hook="the id of the hook that it came by; absent where it was none",
    key="the id of the API key; null where none counted",
    account="the id of the account that the key or the hook belongs to",
    aborted="true where a stream was cut off, since Postgres did not answer any more",
)
CONNECTION_CLOSED = _declare(
    "connection.closed",
    "A web process has closed connections that kept it waiting, or made room when there were too"
    " many; at most one line for each reason in ten seconds.",
    reason="silent (nothing came), head (what came is not the head of a request, or not all of it),"
    " unread (the peer does not read its answer), or room (for a new one: idle for longest, one"
    " that sends more before it has its answers, or the slowest to send its body or to read its"
    " answer), or ahead (it sent more before it had its answers than all connections may)",
    count="how many since the last such line",
    open_connections="how many there are now",
)
CONNECTION_REFUSED = _declare(
    "connection.refused",
    "A web process has refused new connections, with 503 where they ask something; at most one line"
    " for each reason in ten seconds.",
    reason="total (MAX_CONNECTIONS, or the limit of open files), or peer"
    " (MAX_CONNECTIONS_PER_PEER)",
    count="how many since the last such line",
    open_connections="how many there are now",
)
BODIES_LIMITED = _declare(
    "bodies.limited",
    "More large bodies came than a web process keeps in memory; at most one line in ten seconds.",
    ended="how many were ended with 408 since the last such line, as the slowest, to make room",
    refused="how many were refused with 503 since the last such line, as there was no room in time",
)
REQUEST_FAILED = _declare(
    "request.failed",
    "A web process raised what it never should; its caller was told of an internal failure and the"
    " correlation id, or had its stream cut off.",
    method="GET, POST and so on",
    route="the path's pattern, never the path; null where there is none",
    error="the kind of error",
)
WEB_TASK_FAILED = _declare(
    "web.task_failed",
    "A periodic task of a web process raised what it never should; it goes on.",
    task="the task that raised",
    error="the kind of error",
)
WORKER_STARTED = _declare(
    "worker.started",
    "A worker process is ready for messages.",
    threads="how many messages it works at a time",
    **_VERSION,
)
WORKER_STOPPED = _declare("worker.stopped", "A worker process ended as it was asked to.")
WORKER_FAILED = _declare(
    "worker.failed",
    "Something raised that should not have; the sweeper brings the work back.",
    **_ERROR,
    task="the periodic task that raised; absent for a message",
    job="the id of the job that the message was for; absent for a periodic task",
)
WORKER_INTERRUPTED = _declare(
    "worker.interrupted",
    "Something besides a chunk, such as planning or the sweeper's round, was rolled back because of"
    " a deadlock, a lock or a full disk; it is done again.",
    **_ERROR,
    **_LOCATION,
    job="the id of the job that it was for; null where it was for none",
)
WORKER_STUCK = _declare(
    "worker.stuck",
    "A worker process ended itself: its event loop had been blocked for too long. Its chunks are"
    " pending again.",
    seconds="for how long the loop had not turned",
    stack="where in the code the loop was, the innermost place first",
    **_CURRENT_CHUNK,
)
WORKER_LOST = _declare(
    "worker.lost",
    "A worker came to a part of a job and vanished: it was killed, stopped or cut off. Its chunk is"
    " pending again. The same chunk in line after line is what ends its workers.",
    job="the job's id",
    account="the account's id",
    action="the bulk action's name",
    chunk="the chunk that it had in hand; null where that is not known, or was done",
    detected_by="which process found that",
)
SWEEP_REQUEUED = _declare(
    "sweep.requeued",
    "The sweeper rang for a job that had work and showed no progress. A warning where its message"
    " was lost; otherwise, at debug, the job had rested or is behind others in the queue.",
    job="the job's id",
    action="the bulk action's name",
    reason="what the job was waiting for",
    lanes="how many messages were sent for it",
)
_QUEUE = {
    "pending_chunks": "how many chunks wait for a worker; a job without its plan counts as one",
    "planning_jobs": "how many of these are jobs that wait for their plan",
    "oldest_seconds": "for how long the oldest of them has waited, in seconds",
}
QUEUE_MEASURED = _declare(
    "queue.measured",
    "Written for each queue every few seconds by one worker; set an alarm on the age.",
    queue="the queue's name",
    **_QUEUE,
    running_jobs="how many jobs run in it",
    work_seconds="how long the work would take one chunk after the other, as chunks took of late",
)
QUEUE_UNATTENDED = _declare(
    "queue.unattended",
    "Work waits and no worker comes. Written by a web process, once a minute for all of them.",
    **_QUEUE,
    due_webhooks="how many completion webhooks wait to be delivered",
    unattended_for_seconds="for how long no worker has measured or swept, in seconds",
)
QUEUE_ATTENDED = _declare(
    "queue.attended",
    "Workers come again, or nothing waits any more; written once after queue.unattended.",
    unattended_for_seconds="for how long no worker has measured or swept, in seconds",
)
QUEUE_UNREACHABLE = _declare(
    "queue.unreachable",
    "Redis did not answer; jobs go on when it is back. Written once per outage and process.",
    **_ERROR,
)
QUEUE_RECOVERED = _declare("queue.recovered", "Redis answers again.")
DATABASE_UNREACHABLE = _declare(
    "database.unreachable",
    "Postgres did not answer; nothing is lost. Written once per outage and process.",
    **_ERROR,
)
DATABASE_RECOVERED = _declare("database.recovered", "Postgres answers again.")
LIBRARY_LOGGED = _declare(
    "library.logged",
    "A library that Sluice uses logged something, a warning at least.",
    logger="the library's logger",
    message="what it said; anything like an address is blotted out",
)
