"""Waking idle consumers, so that they need not poll Redis constantly.

The script that enqueues a message also publishes the queue's name (`workers.broker`). Each worker
process has one subscribed connection (`QueueListener`). A notification is a hint: a consumer sees
what there is when it fetches, and a lost notification costs `MAX_IDLE_SECONDS`. While nothing is
subscribed, consumers poll every `POLL_SECONDS`.
"""

import random
import threading
from contextlib import suppress
from typing import Any

import redis
from dramatiq.middleware import Middleware
from redis.client import PubSub
from redis.utils import str_if_bytes

MAX_IDLE_SECONDS = 1.0
"""How long a consumer waits, at most, before it fetches. A fetch also shows Redis that the worker
lives, and finds messages that were taken over from a lost worker, which nobody publishes."""

POLL_SECONDS = 0.05
"""How long a consumer waits, at most, while the process is not subscribed."""

RESUBSCRIBE_SECONDS = 1.0
"""How long, on average, until the next attempt to subscribe."""

LISTEN_SECONDS = 0.5
"""How long the thread waits for one notification. A shutdown waits for that."""

PING_AFTER_POLLS = 4
"""After this many waits without a notification, the thread sends a ping."""

MAX_SILENT_POLLS = 10
"""After this many waits without a word from Redis, the connection counts as lost. Waits are counted
instead of seconds, since a suspended process may wake up hours later."""

CHANNEL_SUFFIX = ":enqueued"
"""The channel is the namespace and this."""


class QueueListener(Middleware):
    """Wakes the consumers of one worker process: an event for each queue, and a thread."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._channel = namespace + CHANNEL_SUFFIX
        self._wake_events: dict[str, threading.Event] = {}
        self._stopping = threading.Event()
        self.subscribed = False
        """Whether Redis has confirmed the subscription."""
        # A daemon thread never keeps a process from ending.
        self._thread = threading.Thread(target=self._run, name="queue-listener", daemon=True)

    def wake_event(self, queue: str) -> threading.Event:
        """Return the event that is set when a message is enqueued in the queue.

        Clear it before a fetch, not after: a message that arrives in between would be missed.
        """
        return self._wake_events.setdefault(queue, threading.Event())

    def wait(self, wake_event: threading.Event) -> None:
        """Wait until it is time to fetch again."""
        longest = MAX_IDLE_SECONDS if self.subscribed else POLL_SECONDS
        # Random, so that consumers do not fetch at the same time.
        wake_event.wait(longest * random.uniform(0.5, 1))

    def before_worker_boot(self, _broker: Any, _worker: Any) -> None:
        """Start the thread, in the process that has the consumers: threads survive no fork."""
        self._thread.start()

    def before_worker_shutdown(self, _broker: Any, _worker: Any) -> None:
        """Stop listening, and wake the consumers, so that they can end."""
        self._stopping.set()
        self._mark_unsubscribed()

    def after_worker_shutdown(self, _broker: Any, _worker: Any) -> None:
        """Wait until the thread has ended, unless Redis delays that."""
        self._thread.join(2 * LISTEN_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                # If Redis is down, the consumers notice and report it.
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
            # Notifications before this moment were lost.
            self._wake_all()

    def _mark_unsubscribed(self) -> None:
        self.subscribed = False
        # Consumers that wait for a notification must poll from now on.
        self._wake_all()

    def _wake_all(self) -> None:
        for wake_event in list(self._wake_events.values()):
            wake_event.set()
