"""Waking idle consumers, so that they need not poll Redis constantly.

A process that enqueues messages also publishes the queue's name (`publish_on_enqueue`), and each
worker process has one connection that is subscribed (`QueueListener`). A notification is a hint:
the consumer sees what there is to do when it fetches, and a lost one costs `MAX_IDLE_SECONDS`.
While nothing is subscribed, consumers poll every `POLL_SECONDS`.
"""

import random
import threading
from contextlib import suppress
from typing import Any

import redis
from dramatiq.brokers.redis import RedisBroker
from redis.client import PubSub
from redis.utils import str_if_bytes

MAX_IDLE_SECONDS = 1.0
"""How long a consumer waits, at most, to be woken. By its looks Redis also sees that the worker
lives, and they find what nobody publishes: messages that were taken back from a lost worker."""

POLL_SECONDS = 0.05
"""How long it waits, at most, while nobody would wake it."""

RESUBSCRIBE_SECONDS = 1.0
"""How long, on average, before it is tried again to subscribe."""

LISTEN_SECONDS = 0.5
"""How long one look for wake-ups takes when there are none; a shutdown waits for it."""

PING_AFTER_POLLS = 4
"""After so many looks without a word Redis is asked for one."""

MAX_SILENT_POLLS = 10
"""After so many it counts as silent, and the connection as lost. Looks are counted and not seconds:
a process that was stopped as a whole comes back with one look and not with hours."""

_SUFFIX = ":enqueued"

_PUBLISH_SCRIPT = f"""
if ARGV[1] == "enqueue" or ARGV[1] == "requeue" then
    redis.pcall("publish", KEYS[1] .. "{_SUFFIX}", ARGV[3])
end
""".encode()
"""Before dramatiq's script, of which the arguments are command, time and queue, the key is the
namespace. A script is done as one, so nobody hears of a message before it is there; and it may not
fail for a hint, which a user of Redis may not be allowed to publish."""


def publish_on_enqueue(broker: RedisBroker) -> None:
    """Have what this broker puts into queues announced, at no further round trip."""
    theirs = broker.scripts["dispatch"].script
    assert isinstance(theirs, bytes)
    broker.scripts["dispatch"] = broker.client.register_script(_PUBLISH_SCRIPT + theirs)


class QueueListener:
    """The events of one process's consumers, one for each queue, and the thread that sets them."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._channel = namespace + _SUFFIX
        self._wake_events: dict[str, threading.Event] = {}
        self._stopping = threading.Event()
        self.subscribed = False
        """Whether it would hear of a ring."""
        # Never keeps a process from ending.
        self._thread = threading.Thread(target=self._run, name="queue-listener", daemon=True)

    def wake_event(self, queue: str) -> threading.Event:
        """Return the event that is set when a message is enqueued in the queue.

        Clear it before a fetch, not after: a message that arrives in between would be missed.
        """
        return self._wake_events.setdefault(queue, threading.Event())

    def wait(self, wake_event: threading.Event) -> None:
        """Wait until it is time to fetch again."""
        longest = MAX_IDLE_SECONDS if self.subscribed else POLL_SECONDS
        # Not all at once.
        wake_event.wait(longest * random.uniform(0.5, 1))

    def start(self) -> None:
        """Begin to listen; in the process that has the consumers, since threads survive no fork."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no longer. From now on consumers wait for moments only, and end when asked."""
        self._stopping.set()
        self._mark_unsubscribed()

    def join(self) -> None:
        """Wait until the thread has ended, unless Redis keeps it from that."""
        self._thread.join(2 * LISTEN_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                # Whether Redis is away, the consumers notice, and tell.
                subscribing = self._client.pubsub()  # type: ignore[no-untyped-call]
                with suppress(redis.RedisError, OSError), subscribing as subscription:
                    subscription.subscribe(self._channel)
                    self._listen(subscription)
            finally:
                self._mark_unsubscribed()
            self._stopping.wait(RESUBSCRIBE_SECONDS * random.uniform(0.5, 1.5))
        self._client.close()

    def _listen(self, subscription: PubSub) -> None:
        polls = 0
        while not self._stopping.is_set() and polls < MAX_SILENT_POLLS:
            message = subscription.get_message(timeout=LISTEN_SECONDS)
            if message is not None:
                polls = 0
                self._handle_message(message)
                continue
            polls += 1
            if polls == PING_AFTER_POLLS:
                subscription.ping()

    def _handle_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            wake_event = self._wake_events.get(str_if_bytes(message["data"]))
            if wake_event is not None:
                wake_event.set()
        elif message["type"] == "subscribe":
            self.subscribed = True
            # Someone may have rung while nobody listened.
            self._wake_all()

    def _mark_unsubscribed(self) -> None:
        self.subscribed = False
        # Whoever waits to be woken looks for itself from now on.
        self._wake_all()

    def _wake_all(self) -> None:
        for wake_event in list(self._wake_events.values()):
            wake_event.set()
