"""Idle consumers are woken by each message, and poll while the process is not subscribed.

Each worker here is dramatiq's own, in this process, with the broker and the consumers of the worker
processes. If consumers wait for minutes, only a notification can have made them fetch.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import unquote, urlsplit

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from structlog.testing import capture_logs

from runtime.outages import queue_outage
from runtime.redis_client import redis_client
from runtime.settings import Settings
from tests.kit.redis_proxy import RedisProxy
from tests.kit.waiting import wait_until
from workers import queue_listener
from workers.broker import WorkerBroker, make_client_broker
from workers.queue_listener import QueueListener

LONG_IDLE_SECONDS = 600.0
TIMEOUT_SECONDS = 60

QUEUES = ("starts", "bulk")

# The tests count the commands and subscriptions of the whole Redis.
pytestmark = pytest.mark.usefixtures("own_redis")


class Fleet:
    """A worker that records what it received, and a client broker that enqueues for it."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url is not None
        self.received: SimpleQueue[str] = SimpleQueue()
        self.may_end = threading.Event()
        self.may_end.set()
        self.queue_listener = QueueListener(
            redis_client(settings.redis_url), settings.queue_namespace
        )
        self.broker = WorkerBroker(
            settings,
            [self.queue_listener],
            queue_outage(),
            self.queue_listener,
        )
        for queue in QUEUES:
            dramatiq.actor(self._note, actor_name=queue, queue_name=queue, broker=self.broker)
        self.client_broker = make_client_broker(settings.redis_url, settings.queue_namespace)
        self.worker = dramatiq.Worker(self.broker, worker_timeout=100, worker_threads=1)
        self.worker.queue_prefetch = 1

    def _note(self, text: str) -> None:
        self.received.put(text)
        assert self.may_end.wait(TIMEOUT_SECONDS)

    def start(self) -> None:
        """Start the worker, and wait until it has subscribed."""
        self.worker.start()
        self.wait_until_subscribed()

    def stop(self) -> None:
        """Stop the worker and close its connections."""
        self.worker.stop(timeout=TIMEOUT_SECONDS * 1000)
        for broker in (self.broker, self.client_broker):
            broker.client.close()

    def wait_until_subscribed(self) -> None:
        """Wait until the queue listener has subscribed."""
        wait_until(
            lambda: self.queue_listener.subscribed,
            deadline_seconds=TIMEOUT_SECONDS,
            what="it has subscribed",
        )

    def wait_until_idle(self) -> None:
        """Wait until nothing was fetched for half a second; polling fetches every 50 ms."""
        fetches, since = self.fetches(), time.monotonic()

        def rests() -> bool:
            nonlocal fetches, since
            if (now := self.fetches()) != fetches:
                fetches, since = now, time.monotonic()
            return time.monotonic() - since > 0.5

        wait_until(rests, deadline_seconds=TIMEOUT_SECONDS, what="no consumer fetches")

    def fetches(self) -> int:
        """Count the scripts that Redis has run so far."""
        # The key is missing before the first call.
        calls = self.client_broker.client.info("commandstats").get("cmdstat_evalsha")
        return calls["calls"] if calls else 0

    def enqueue(
        self, text: str, *, queue: str = "starts", broker: RedisBroker | None = None
    ) -> None:
        """Enqueue a message with the client broker, or with another one."""
        (broker or self.client_broker).enqueue(
            dramatiq.Message(
                queue_name=queue, actor_name=queue, args=(text,), kwargs={}, options={}
            )
        )

    def assert_receives(self, text: str, *, queue: str = "starts") -> None:
        """Enqueue a message, and wait until the worker has it."""
        self.enqueue(text, queue=queue)
        assert self.received.get(timeout=TIMEOUT_SECONDS) == text

    def subscribers(self) -> set[str]:
        """Return the ids of the connections that are subscribed."""
        return {
            each["id"] for each in self.client_broker.client.client_list() if each["sub"] != "0"
        }


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delays that take seconds in production."""
    monkeypatch.setattr(queue_listener, "LISTEN_SECONDS", 0.1)
    monkeypatch.setattr(queue_listener, "RESUBSCRIBE_SECONDS", 0.2)
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.2)


@pytest.fixture
def fleet(settings: Settings) -> Iterator[Fleet]:
    """Run one worker with the settings of the test."""
    yield from running(settings)


@pytest.fixture
def long_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make consumers wait for minutes unless they are woken."""
    monkeypatch.setattr(queue_listener, "MAX_IDLE_SECONDS", LONG_IDLE_SECONDS)


@pytest.fixture
def through_proxy(own_redis: str, settings: Settings) -> Iterator[tuple[RedisProxy, Fleet]]:
    """Run a worker behind a proxy that can stop Redis from answering."""
    with RedisProxy(Path(unquote(urlsplit(own_redis).path))) as proxy:
        for fleet in running(settings.model_copy(update={"redis_url": proxy.url})):
            yield proxy, fleet


def running(settings: Settings) -> Iterator[Fleet]:
    """Run a worker; release its messages and stop it at the end."""
    fleet = Fleet(settings)
    fleet.start()
    yield fleet
    fleet.may_end.set()
    fleet.stop()


@pytest.mark.usefixtures("long_idle_time")
def test_an_idle_worker_does_not_poll_and_is_woken(fleet: Fleet):
    """While there is nothing to do, no consumer fetches. A message wakes its queue's consumer."""
    fleet.wait_until_idle()
    for n, queue in enumerate([*QUEUES, *QUEUES]):
        fleet.assert_receives(f"message {n}", queue=queue)
    fleet.wait_until_idle()
    fleet.assert_receives("one more")


def test_a_message_wakes_the_consumers_of_its_queue_only(settings: Settings):
    """A message thus costs a fleet one fetch per process, not one per process and queue."""
    assert settings.redis_url is not None
    listener = QueueListener(redis_client(settings.redis_url), settings.queue_namespace)
    wake_events = {queue: listener.wake_event(queue) for queue in QUEUES}
    client = make_client_broker(settings.redis_url, settings.queue_namespace)
    listener.before_worker_boot(None, None)
    for wake_event in wake_events.values():
        assert wake_event.wait(TIMEOUT_SECONDS), "a new subscription wakes every consumer once"
        wake_event.clear()
    message = dramatiq.Message(queue_name="bulk", actor_name="any", args=(), kwargs={}, options={})
    client.enqueue(message)
    assert wake_events["bulk"].wait(TIMEOUT_SECONDS)
    assert not wake_events["starts"].is_set()
    listener.before_worker_shutdown(None, None)
    listener.after_worker_shutdown(None, None)
    client.client.close()


@pytest.mark.usefixtures("long_idle_time")
def test_a_worker_that_was_full_fetches_when_it_has_room(fleet: Fleet):
    """Messages that arrive while the worker is full are fetched as soon as it has room."""
    fleet.may_end.clear()
    fleet.assert_receives("first")
    fleet.enqueue("second")
    fleet.enqueue("third")
    fleet.wait_until_idle()
    fleet.may_end.set()
    assert [fleet.received.get(timeout=TIMEOUT_SECONDS) for _ in range(2)] == ["second", "third"]


@pytest.mark.usefixtures("long_idle_time")
def test_a_returned_message_wakes_another_worker(fleet: Fleet, settings: Settings):
    """The messages that a stopping worker returns do not wait for the next poll."""
    fleet.wait_until_idle()
    stopping = Fleet(settings)
    consumer = stopping.broker.consume("starts", prefetch=1)
    plain = plain_broker(settings)
    fleet.enqueue("returned", broker=plain)
    message = next(consumer)
    consumer.requeue([message])
    assert fleet.received.get(timeout=TIMEOUT_SECONDS) == "returned"
    for client in (plain.client, stopping.broker.client, stopping.client_broker.client):
        client.close()


def test_a_message_without_a_publication_is_found(fleet: Fleet, settings: Settings):
    """A lost notification delays the message by a second, and does not lose it."""
    plain = plain_broker(settings)
    fleet.wait_until_subscribed()
    fleet.enqueue("unpublished", broker=plain)
    assert fleet.received.get(timeout=TIMEOUT_SECONDS) == "unpublished"
    plain.client.close()


def plain_broker(settings: Settings) -> RedisBroker:
    """Return a broker that enqueues as dramatiq does, without publishing."""
    return RedisBroker(
        middleware=[],
        client=redis_client(settings.redis_url or ""),
        namespace=settings.queue_namespace,
    )


@pytest.mark.usefixtures("long_idle_time")
def test_a_killed_subscription_is_restored(fleet: Fleet):
    """Consumers poll until the listener has subscribed again. The log reports no outage."""
    fleet.wait_until_idle()
    before = fleet.subscribers()
    with capture_logs() as lines:
        for connection_id in before:
            fleet.client_broker.client.client_kill_filter(_id=connection_id)
        fleet.assert_receives("meanwhile")
        wait_until(
            lambda: fleet.subscribers() - before,
            deadline_seconds=TIMEOUT_SECONDS,
            what="it subscribes again",
        )
        fleet.wait_until_subscribed()
        fleet.wait_until_idle()
        fleet.assert_receives("afterwards")
    assert lines == []


@pytest.mark.usefixtures("long_idle_time")
def test_a_silent_subscription_is_closed(through_proxy: tuple[RedisProxy, Fleet]):
    """The listener notices that Redis does not answer, and subscribes again once it does."""
    proxy, fleet = through_proxy
    fleet.wait_until_idle()
    proxy.stall()
    wait_until(
        lambda: not fleet.queue_listener.subscribed,
        deadline_seconds=TIMEOUT_SECONDS,
        what="the silent connection is closed",
    )
    proxy.unstall()
    fleet.wait_until_subscribed()
    fleet.assert_receives("afterwards")


@pytest.mark.usefixtures("long_idle_time")
def test_idle_consumers_end_on_shutdown(settings: Settings):
    """Consumers end on shutdown, however long they would have waited. The listener's thread ends
    too.
    """
    fleet = Fleet(settings)
    fleet.start()
    fleet.wait_until_idle()
    fleet.stop()
    assert not any(thread.is_alive() for thread in fleet.worker.consumers.values())
    assert not fleet.queue_listener._thread.is_alive()


def test_delay_queues_have_no_consumers(fleet: Fleet):
    """Sluice sends no delayed messages, so nothing consumes the delay queues."""
    assert set(fleet.worker.consumers) == set(QUEUES)


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_deliver_notifications(settings: Settings, protocol: int):
    """Redis before version 6 supports only protocol 2; newer versions support both."""
    url = f"{settings.redis_url}?protocol={protocol}"
    for fleet in running(settings.model_copy(update={"redis_url": url})):
        fleet.assert_receives("received")
