"""Sluice's changes to dramatiq take effect; each test fails if the library changes there.

The published queue names and the missing delay queues are tested in `test_queue_listener`. SIGHUP
and the shutdown timeouts are tested with real processes in `test_worker_shutdown`.
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator

import dramatiq
import pytest
import redis
import uvloop
from dramatiq import cli
from dramatiq.asyncio import async_to_sync, get_event_loop_thread
from dramatiq.errors import ConnectionClosed
from structlog.testing import capture_logs

from runtime.outages import queue_outage
from runtime.redis_client import redis_client
from runtime.settings import Settings
from tests.kit.worker_group import ROOT
from workers.broker import WorkerBroker
from workers.middleware.event_loop import EventLoop
from workers.queue_listener import QueueListener


@pytest.fixture
def broker(settings: Settings) -> Iterator[WorkerBroker]:
    """Yield a worker's broker with a message in the queue `bulk`."""
    client = redis_client(settings.redis_url or "")
    listener = QueueListener(client, settings.queue_namespace)
    broker = WorkerBroker(settings, [], queue_outage(), listener)
    broker.enqueue(
        dramatiq.Message(queue_name="bulk", actor_name="any", args=(), kwargs={}, options={})
    )
    yield broker
    broker.client.close()
    client.close()


def break_scripts(broker: WorkerBroker) -> None:
    """Make every script fail with an error other than a broken connection."""
    broker.client.set(f"{broker.namespace}:__heartbeats__", "not a sorted set")


def test_every_redis_error_is_a_broken_connection_and_an_outage(broker: WorkerBroker):
    """After `ConnectionClosed` dramatiq creates a new consumer; otherwise it logs a traceback."""
    break_scripts(broker)
    with capture_logs() as lines, pytest.raises(ConnectionClosed):
        next(broker.consume("bulk"))
    assert [line["event"] for line in lines] == ["queue.unreachable"]


def test_the_client_raises_what_dramatiq_would_not_handle(broker: WorkerBroker):
    """The error that these tests cause is none that dramatiq treats as a broken connection."""
    break_scripts(broker)
    with pytest.raises(redis.ResponseError):
        broker.client.zadd(f"{broker.namespace}:__heartbeats__", {"test": 1})


@pytest.mark.parametrize("method", ["ack", "nack", "requeue"])
def test_an_acknowledgment_without_redis_is_not_repeated(broker: WorkerBroker, method: str):
    """The call raises nothing, so dramatiq does not block a thread until Redis answers."""
    consumer = broker.consume("bulk")
    message = next(consumer)
    assert message is not None
    break_scripts(broker)
    getattr(consumer, method)([message] if method == "requeue" else message)


def test_the_event_loop_is_uvloops_and_its_thread_a_daemon():
    """Coroutines run on uvloop's loop, not dramatiq's, and no process waits for its thread."""
    middleware = EventLoop()
    middleware.before_worker_boot(None, None)
    thread = get_event_loop_thread()
    assert thread is not None

    async def running_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert isinstance(async_to_sync(running_loop)(), uvloop.Loop)
    assert thread.daemon
    middleware.after_worker_shutdown(None, None)
    assert not thread.is_alive()


def test_the_master_handles_the_signals_of_this_set():
    """`end_on_hangup` removes SIGHUP from it."""
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} == cli.HANDLED_SIGNALS


def test_dramatiq_reads_its_settings_from_the_environment():
    """The settings are set before dramatiq is imported, so this test needs a separate process."""
    code = (
        "from runtime.settings import Settings; from workers import __main__ as main;"
        "main._configure_dramatiq(Settings(worker_threads=3)); from dramatiq import worker;"
        "print(worker.QUEUE_PREFETCH, worker.WORKER_TIMEOUT, worker.CONSUMER_RESTART_DELAY)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["3", "200", "1000"]
