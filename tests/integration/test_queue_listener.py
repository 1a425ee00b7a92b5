"""Idle consumers are woken by rings, and look for themselves while nobody would wake them.

Each worker here is dramatiq's own, in this process, with the broker and the consumers of the worker
processes. Where consumers wait for minutes, only what woke them can have made them fetch.
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

FOR_MINUTES = 600.0
SOON = 60

QUEUES = ("starts", "bulk")

# What Redis is asked, and who listens there, is counted.
pytestmark = pytest.mark.usefixtures("own_redis")


class Fleet:
    """One worker and somebody who rings for it; its only actor notes what came to it."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url is not None
        self.came: SimpleQueue[str] = SimpleQueue()
        self.may_end = threading.Event()
        self.may_end.set()
        self.queue_listener = QueueListener(
            redis_client(settings.redis_url), settings.queue_namespace
        )
        self.broker = WorkerBroker(
            settings,
            [self.queue_listener],
            queue_outage(worker="test"),
            self.queue_listener,
        )
        for queue in QUEUES:
            dramatiq.actor(self._note, actor_name=queue, queue_name=queue, broker=self.broker)
        self.ringing = make_client_broker(settings.redis_url, settings.queue_namespace)
        self.worker = dramatiq.Worker(self.broker, worker_timeout=100, worker_threads=1)
        self.worker.queue_prefetch = 1

    def _note(self, what: str) -> None:
        self.came.put(what)
        assert self.may_end.wait(SOON)

    def start(self) -> None:
        """Start the worker, and wait until it has subscribed."""
        self.worker.start()
        self.wait_until_it_hears()

    def stop(self) -> None:
        """Stop the worker and close its connections."""
        self.worker.stop(timeout=SOON * 1000)
        for broker in (self.broker, self.ringing):
            broker.client.close()

    def wait_until_it_hears(self) -> None:
        """Wait until the queue listener has subscribed."""
        wait_until(lambda: self.queue_listener.subscribed, deadline_seconds=SOON, what="it listens")

    def wait_until_it_rests(self) -> None:
        """Until nothing was fetched for half a second, of which polling would need a tenth."""
        fetches, since = self.fetches(), time.monotonic()

        def rests() -> bool:
            nonlocal fetches, since
            if (now := self.fetches()) != fetches:
                fetches, since = now, time.monotonic()
            return time.monotonic() - since > 0.5

        wait_until(rests, deadline_seconds=SOON, what="nobody asks Redis for messages")

    def fetches(self) -> int:
        """How often a script was called so far, by anybody."""
        # There is none before the first call.
        calls = self.ringing.client.info("commandstats").get("cmdstat_evalsha")
        return calls["calls"] if calls else 0

    def ring(self, what: str, *, queue: str = "starts", broker: RedisBroker | None = None) -> None:
        """Enqueue a message, by another broker than the worker's unless one is given."""
        (broker or self.ringing).enqueue(
            dramatiq.Message(
                queue_name=queue, actor_name=queue, args=(what,), kwargs={}, options={}
            )
        )

    def hears_of(self, what: str, *, queue: str = "starts") -> None:
        """Ring, and wait until it came."""
        self.ring(what, queue=queue)
        assert self.came.get(timeout=SOON) == what

    def subscribers(self) -> set[str]:
        """Return the ids of the connections that are subscribed."""
        return {each["id"] for each in self.ringing.client.client_list() if each["sub"] != "0"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds elsewhere takes a part of one."""
    monkeypatch.setattr(queue_listener, "LISTEN_SECONDS", 0.1)
    monkeypatch.setattr(queue_listener, "RESUBSCRIBE_SECONDS", 0.2)
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.2)


@pytest.fixture
def fleet(settings: Settings) -> Iterator[Fleet]:
    """Run one worker with the settings of the test."""
    yield from running(settings)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers that wait for minutes if nobody wakes them."""
    monkeypatch.setattr(queue_listener, "MAX_IDLE_SECONDS", FOR_MINUTES)


@pytest.fixture
def through_proxy(own_redis: str, settings: Settings) -> Iterator[tuple[RedisProxy, Fleet]]:
    """A fleet whose Redis can be made silent."""
    with RedisProxy(Path(unquote(urlsplit(own_redis).path))) as proxy:
        for fleet in running(settings.model_copy(update={"redis_url": proxy.url})):
            yield proxy, fleet


def running(settings: Settings) -> Iterator[Fleet]:
    """Run one worker; release its messages and stop it at the end."""
    fleet = Fleet(settings)
    fleet.start()
    yield fleet
    fleet.may_end.set()
    fleet.stop()


@pytest.mark.usefixtures("patient")
def test_an_idle_worker_asks_nothing_and_is_woken(fleet: Fleet):
    """While there is nothing to do nobody asks Redis for messages; a ring is answered all the same,
    in whichever queue.
    """
    fleet.wait_until_it_rests()
    for n, queue in enumerate([*QUEUES, *QUEUES]):
        fleet.hears_of(f"ring {n}", queue=queue)
    fleet.wait_until_it_rests()
    fleet.hears_of("one more")


def test_a_ring_wakes_the_consumers_of_its_queue_and_no_others(settings: Settings):
    """So that a ring costs a fleet one fetch per process and not one per process and queue."""
    assert settings.redis_url is not None
    hearing = QueueListener(redis_client(settings.redis_url), settings.queue_namespace)
    bells = {queue: hearing.wake_event(queue) for queue in QUEUES}
    ringing = make_client_broker(settings.redis_url, settings.queue_namespace)
    hearing.before_worker_boot(None, None)
    for wake_event in bells.values():
        assert wake_event.wait(SOON), "whoever begins to listen looks once"
        wake_event.clear()
    message = dramatiq.Message(queue_name="bulk", actor_name="any", args=(), kwargs={}, options={})
    ringing.enqueue(message)
    assert bells["bulk"].wait(SOON)
    assert not bells["starts"].is_set()
    hearing.before_worker_shutdown(None, None)
    hearing.after_worker_shutdown(None, None)
    ringing.client.close()


@pytest.mark.usefixtures("patient")
def test_a_worker_that_was_full_fetches_when_it_has_room(fleet: Fleet):
    """What was rung for while it had all it may have is fetched as soon as something is done."""
    fleet.may_end.clear()
    fleet.hears_of("first")
    fleet.ring("second")
    fleet.ring("third")
    fleet.wait_until_it_rests()
    fleet.may_end.set()
    assert [fleet.came.get(timeout=SOON) for _ in range(2)] == ["second", "third"]


@pytest.mark.usefixtures("patient")
def test_what_a_worker_hands_back_wakes_another_one(fleet: Fleet, settings: Settings):
    """A worker that is asked to end does not leave its messages to whoever looks next."""
    fleet.wait_until_it_rests()
    ends = Fleet(settings)
    consumer = ends.broker.consume("starts", prefetch=1)
    plain = unannounced(settings)
    fleet.ring("handed back", broker=plain)
    message = next(consumer)
    consumer.requeue([message])
    assert fleet.came.get(timeout=SOON) == "handed back"
    for client in (plain.client, ends.broker.client, ends.ringing.client):
        client.close()


def test_a_message_without_a_publication_is_found(fleet: Fleet, settings: Settings):
    """A wake-up that was lost costs a second and not the message."""
    plain = unannounced(settings)
    fleet.wait_until_it_hears()
    fleet.ring("in silence", broker=plain)
    assert fleet.came.get(timeout=SOON) == "in silence"
    plain.client.close()


def unannounced(settings: Settings) -> RedisBroker:
    """Somebody who puts messages into queues as dramatiq does, and tells nobody."""
    return RedisBroker(
        middleware=[],
        client=redis_client(settings.redis_url or ""),
        namespace=settings.queue_namespace,
    )


@pytest.mark.usefixtures("patient")
def test_a_killed_subscription_is_made_again(fleet: Fleet):
    """Meanwhile rings are answered by looking; it is no outage, and is not told as one."""
    fleet.wait_until_it_rests()
    before = fleet.subscribers()
    with capture_logs() as lines:
        for one in before:
            fleet.ringing.client.client_kill_filter(_id=one)
        fleet.hears_of("meanwhile")
        wait_until(
            lambda: fleet.subscribers() - before, deadline_seconds=SOON, what="it subscribes again"
        )
        fleet.wait_until_it_hears()
        fleet.wait_until_it_rests()
        fleet.hears_of("afterwards")
    assert lines == []


@pytest.mark.usefixtures("patient")
def test_a_silent_subscription_is_closed(through_proxy: tuple[RedisProxy, Fleet]):
    """A Redis that takes what it is sent and says nothing is noticed, and listened to again as soon
    as it speaks.
    """
    proxy, fleet = through_proxy
    fleet.wait_until_it_rests()
    proxy.stall()
    wait_until(
        lambda: not fleet.queue_listener.subscribed, deadline_seconds=SOON, what="it gives up"
    )
    proxy.unstall()
    fleet.wait_until_it_hears()
    fleet.hears_of("afterwards")


@pytest.mark.usefixtures("patient")
def test_idle_consumers_end_when_asked(settings: Settings):
    """However long they would have waited; and nobody goes on listening."""
    fleet = Fleet(settings)
    fleet.start()
    fleet.wait_until_it_rests()
    fleet.stop()
    assert not any(thread.is_alive() for thread in fleet.worker.consumers.values())
    assert "wake-ups" not in {thread.name for thread in threading.enumerate()}


def test_nobody_consumes_delay_queues(fleet: Fleet):
    """No message of Sluice is one that waits."""
    assert set(fleet.worker.consumers) == set(QUEUES)


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_ring_is_heard_by_either_protocol(settings: Settings, protocol: int):
    """Redis before 6 knows only the second, and newer ones both."""
    url = f"{settings.redis_url}?protocol={protocol}"
    for fleet in running(settings.model_copy(update={"redis_url": url})):
        fleet.hears_of("heard")
