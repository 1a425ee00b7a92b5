"""Every event that Sluice logs: its name, what happened, and its keys.

The list is closed. Names are dotted and in the past tense; facts are keys, which
`runtime/event_keys.py` explains. A key may be absent. `docs/log-events.md` is written from here.
"""

from runtime.event_keys import DECLARED_EVENTS, declare

EVENTS = DECLARED_EVENTS
"""Every event by its name."""

_ACTOR = "actor via"
_BY_REQUEST = f"{_ACTOR} request_correlation_id"
_VERSION = "version commit"

# Jobs

_JOB = "job account action"
_CHUNK = f"{_JOB} chunk"
_CONTROL = f"{_JOB} state {_BY_REQUEST}"
_OUTCOMES = "applied unchanged rejected empty propagated"

JOB_SUBMITTED = declare(
    "job.submitted",
    "A job was stored. It will be processed, whatever fails meanwhile.",
    f"{_JOB} fields selected_by contacts_listed addresses_listed {_ACTOR}",
)
OPT_OUT_RECEIVED = declare(
    "opt_out.received",
    "A recipient's own opt-out was accepted. From now on it prevails over any other change.",
    f"{_JOB} kind {_ACTOR}",
)
OPT_OUT_DEFERRED = declare(
    "opt_out.deferred",
    "An opt-out could not be applied before the request was answered. Its job is stored, and"
    " workers process it before all other work.",
    f"{_JOB} error",
)
JOB_PLANNED = declare(
    "job.planned", "A job's selection was frozen into chunks.", f"{_JOB} selected chunks"
)
PLAN_COUNTED = declare(
    "plan.counted",
    "The forecast of a planned job was made. The job waits for a confirmation.",
    f"{_JOB} {_OUTCOMES}",
)
PLAN_APPLIED = declare(
    "plan.applied",
    "A plan was confirmed. A worker makes the forecast again before the job runs.",
    f"{_JOB} tolerance {_BY_REQUEST}",
)
PLAN_CONFIRMED = declare(
    "plan.confirmed",
    "The confirmed counts of a plan still hold, within the tolerance. The job runs.",
    f"{_JOB} {_OUTCOMES}",
)
PLAN_DRIFTED = declare(
    "plan.drifted",
    "The counts of a plan now differ from the confirmed ones by more than the tolerance. The job"
    " waits for another confirmation.",
    f"{_JOB} {_OUTCOMES}",
)
JOB_STARTED = declare("job.started", "A worker is about to begin a job's first chunk.", _JOB)
JOB_PAUSED = declare(
    "job.paused", "A job was paused. It changes no address until it is resumed.", _CONTROL
)
JOB_RESUMED = declare("job.resumed", "A paused job was resumed.", _CONTROL)
JOB_CANCELLED = declare(
    "job.cancelled", "A job was cancelled. It changes no further address.", _CONTROL
)
JOB_COMPLETED = declare(
    "job.completed",
    "A job ended, and all its pairs are accounted for.",
    f"{_JOB} {_OUTCOMES} selected seconds",
)
JOB_FAILED = declare(
    "job.failed",
    "A job failed: its selection could not be frozen, its first items all failed, or its counts"
    " did not add up.",
    f"{_JOB} error",
)
JOB_ACTION_UNKNOWN = declare(
    "job.action_unknown",
    "A job was left for a newer worker, because this one does not know its action.",
    _JOB,
)
IMPORT_COMPLETED = declare(
    "import.completed",
    "An import ended. Its contacts are stored.",
    f"{_JOB} rows recognized rejected_rows",
)

# Chunks

CHUNK_PROCESSED = declare(
    "chunk.processed", "A chunk was committed.", f"{_CHUNK} {_OUTCOMES} reasons duration_ms attempt"
)
CHUNK_FAILED = declare(
    "chunk.failed",
    "The work on a chunk raised an error and was rolled back. The attempt counts.",
    f"{_CHUNK} attempt error location next_step retry_in_seconds",
)
CHUNK_INTERRUPTED = declare(
    "chunk.interrupted",
    "The work on a chunk was rolled back because of a transient error, or its commit was not"
    " confirmed. The attempt does not count.",
    f"{_CHUNK} error location",
)
CHUNK_SPLIT = declare(
    "chunk.split",
    "A chunk that failed too often was replaced by its two halves.",
    f"{_CHUNK} items",
)

# Completion webhooks

_DELIVERY = "job account attempt http_status"

WEBHOOK_DELIVERED = declare(
    "webhook.delivered",
    "The receiver accepted a completion webhook. If this process is killed now, it is sent again.",
    f"{_DELIVERY} duration_ms",
)
WEBHOOK_FAILED = declare(
    "webhook.failed",
    "The receiver did not accept a completion webhook. It will be sent again.",
    f"{_DELIVERY} retry_in_seconds error",
)
WEBHOOK_ABANDONED = declare(
    "webhook.abandoned",
    "A completion webhook was given up after too many attempts, or because the receiver answered"
    " 410 (gone).",
    f"{_DELIVERY} error",
)
WEBHOOK_WITHHELD = declare(
    "webhook.withheld",
    "A completion webhook is due, but this worker has no SIGNING_KEYS to sign it with. It waits."
    " Written once per process.",
)

# Accounts, API keys and hooks

_KEY = f"key account {_ACTOR}"
_HOOK = f"hook account {_ACTOR}"

KEY_CREATED = declare("key.created", "An API key was created.", _KEY)
KEY_REVOKED = declare(
    "key.revoked", "An API key was revoked. Web processes reject it within a second.", _KEY
)
HOOK_CREATED = declare("hook.created", "A hook was created.", _HOOK)
HOOK_RENEWED = declare(
    "hook.renewed",
    "A hook got a new secret and a new form URL.",
    f"hook account former_days {_ACTOR}",
)
HOOK_REVOKED = declare(
    "hook.revoked", "A hook was revoked. Everything sent to it is rejected.", _HOOK
)
HOOK_REJECTED = declare(
    "hook.rejected",
    "A request to a hook was rejected. Nothing of it was stored.",
    "hook account",
    reason="revoked, invalid_token, invalid_signature, stale_timestamp, malformed, or key_reused"
    " (an id came again with other content)",
)
HOOK_ADJUSTED = declare(
    "hook.adjusted",
    "A request to a hook was applied, but parts of it were ignored or corrected.",
    "hook account parts",
)
ACCOUNT_CREATED = declare("account.created", "An account was created.", f"account {_ACTOR}")
ACCOUNT_SECRET_RENEWED = declare(
    "account.secret_renewed",
    "An account got a new secret. Its completion webhooks are signed with it from now on.",
    f"account {_ACTOR}",
)

# Processes

WEB_STARTED = declare("web.started", "A web process serves requests.", _VERSION)
WEB_STOPPED = declare("web.stopped", "A web process ended on request.")
WORKER_STARTED = declare(
    "worker.started", "A worker process is ready for messages.", f"threads {_VERSION}"
)
WORKER_STOPPED = declare("worker.stopped", "A worker process ended on request.")
PROCESS_START_FAILED = declare(
    "process.start_failed",
    "A process ended before it began its work. Its message on standard error says why.",
    "process error cause exit_status",
    message="that message; null if it may quote a server or its address",
)
DATABASE_MIGRATED = declare(
    "database.migrated",
    "`sluice migrate` ended. The database has this version's revision.",
    f"{_VERSION} after",
    before="the revision before; null if the database was empty",
)
SETTING_DIFFERS = declare(
    "setting.differs",
    "A process started with another value of a setting that must be equal in all processes.",
    "setting own_value stored_value remedy",
)
SETTING_CHANGED = declare(
    "setting.changed",
    "`sluice migrate` changed the stored value of a setting that must be equal in all processes.",
    "setting before after",
)

# Web processes

_LIMITED = "count open_connections"

REQUEST_ANSWERED = declare(
    "request.answered",
    "A web process sent a response, or the end of a stream.",
    "method route waited_ms jobs problem aborted",
    http_status="the HTTP status; 0 if the client had disconnected",
    duration_ms="how long it took in milliseconds, without `waited_ms`",
    job="the id of the job that it created or was about; of several, the first. All have its"
    " correlation id",
    hook="the id of the hook that received it; absent if there is none",
    key="the id of the API key; null without a valid one",
    account="the id of the account that the key or the hook belongs to",
)
REQUEST_FAILED = declare(
    "request.failed",
    "A web process raised an unexpected error. The client got a 500 with the correlation id, or its"
    " stream was cut off.",
    "method route error",
)
CONNECTION_CLOSED = declare(
    "connection.closed",
    "A web process closed connections that kept it waiting, or to make room. At most one line for"
    " each reason in ten seconds.",
    _LIMITED,
    reason="silent (nothing came); head (no complete request head came); unread (the peer does not"
    " read its response); ahead (it sent more requests ahead than all connections may); room"
    " (closed for a new one: the longest idle, then the slowest)",
)
CONNECTION_REFUSED = declare(
    "connection.refused",
    "A web process refused new connections, with 503 if they sent a request. At most one line for"
    " each reason in ten seconds.",
    _LIMITED,
    reason="total (MAX_CONNECTIONS, or open files), or peer (MAX_CONNECTIONS_PER_PEER)",
)
BODIES_LIMITED = declare(
    "bodies.limited",
    "More large bodies came than a web process keeps in memory. At most one line in ten seconds.",
    "ended",
    rejected="how many were rejected with 503 since the last such line, because no room became free"
    " in time",
)
PEER_LIMITED = declare(
    "peer.limited",
    "A network address sent too many wrong keys, signatures or links. More of them are answered 429"
    " without asking Postgres; valid ones are not delayed. At most one line a minute.",
    count="how many times any peer reached the limit since the last such line",
)
UPLOAD_FAILED = declare(
    "upload.failed",
    "An uploaded file could not be kept on this process's disk. The client got a 507, and nothing"
    " was stored.",
    "key account",
    error="the system's name of the error, such as ENOSPC",
)
WEB_TASK_FAILED = declare(
    "web.task_failed",
    "A periodic task of a web process raised an unexpected error. The task continues.",
    "task error",
)

# Workers

WORKER_FAILED = declare(
    "worker.failed",
    "A worker process raised an unexpected error. The sweeper enqueues the work again.",
    "error",
    task="the periodic task that raised it; absent for a message",
    job="the id of the job that the message was for; absent for a periodic task",
)
WORKER_INTERRUPTED = declare(
    "worker.interrupted",
    "Work other than a chunk, such as planning or a sweep, was rolled back because of a transient"
    " error. It is done again.",
    "error location",
    job="the id of the job that it was for; null if there is none",
)
WORKER_STUCK = declare(
    "worker.stuck",
    "A worker process ended itself, because its event loop was blocked for too long. Its chunks are"
    " pending again.",
    "stack account action chunk",
    seconds="how long the event loop was blocked",
    job="the job whose chunk was being processed; absent if there was none",
)
WORKER_LOST = declare(
    "worker.lost",
    "A worker that held a lane was killed, stopped or cut off. Its chunk is pending again. If the"
    " same chunk appears repeatedly, the chunk itself kills its workers.",
    f"{_JOB} detected_by",
    chunk="the chunk that it was processing; null if it had none, or if that is unknown",
)
SWEEP_REQUEUED = declare(
    "sweep.requeued",
    "The sweeper enqueued a job that had work and made no progress. At warning, its message was"
    " lost; at debug, its lanes were idle, or it waits behind others.",
    "job action lanes",
    reason="what the job was waiting for",
)

# Queues and servers

_WAITING = "pending_chunks planning_jobs oldest_seconds"

QUEUE_MEASURED = declare(
    "queue.measured",
    "One worker measures each queue every few seconds. Set an alarm on `oldest_seconds`.",
    f"queue {_WAITING} running_jobs work_seconds",
)
QUEUE_UNATTENDED = declare(
    "queue.unattended",
    "Work is waiting and no worker is there. Written once a minute by one web process.",
    f"{_WAITING} due_webhooks unattended_for_seconds",
)
QUEUE_ATTENDED = declare(
    "queue.attended",
    "Workers are back, or no work is waiting. Written once after queue.unattended.",
    "unattended_for_seconds",
)
QUEUE_UNREACHABLE = declare(
    "queue.unreachable",
    "Redis did not answer. Jobs continue when it is back. Written once per outage and process.",
    "error",
)
QUEUE_RECOVERED = declare("queue.recovered", "Redis answers again.")
DATABASE_UNREACHABLE = declare(
    "database.unreachable",
    "Postgres did not answer. Nothing is lost. Written once per outage and process.",
    "error",
)
DATABASE_RECOVERED = declare("database.recovered", "Postgres answers again.")
LIBRARY_LOGGED = declare(
    "library.logged", "A library logged a warning or an error.", "logger message"
)
