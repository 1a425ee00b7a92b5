"""An outage is logged once, even if many threads notice it at the same time."""

import threading
import time

import asyncpg
import pytest
from structlog.testing import capture_logs

from db.errors import CONNECTION_USABLE_ERRORS
from runtime.outages import queue_outage
from workers.server_outages import Outages


def outage_events(lines: list) -> list[str]:
    """Return the events of the log lines."""
    return [line["event"] for line in lines]


def test_an_outage_and_its_end_are_logged_once():
    """The number of attempts in between makes no difference."""
    outage = queue_outage()
    with capture_logs() as lines:
        for _ in range(50):
            outage.record_failure(OSError(), time.monotonic())
        assert outage.is_down
        for _ in range(50):
            outage.record_success(time.monotonic())
        assert not outage.is_down
    assert outage_events(lines) == ["queue.unreachable", "queue.recovered"]


def test_a_late_answer_does_not_end_an_outage():
    """An answer to a request from before the failure does not end the outage."""
    outage = queue_outage()
    asked_before = time.monotonic()
    with capture_logs() as lines:
        outage.record_failure(OSError(), time.monotonic())
        outage.record_success(asked_before)
        outage.record_failure(OSError(), time.monotonic())
    assert outage.is_down
    assert outage_events(lines) == ["queue.unreachable"]


def test_only_a_new_connection_ends_an_outage_of_postgres():
    """During shutdown, Postgres answers on existing connections but accepts no new ones."""
    outage = Outages().database
    with capture_logs() as lines:
        outage.record_failure(OSError(), time.monotonic())
        outage.record_success(time.monotonic())
        assert outage.is_down
        outage.record_success(time.monotonic(), on_new_connection=True)
    assert not outage.is_down
    assert outage_events(lines) == ["database.unreachable", "database.recovered"]


def test_a_late_failure_does_not_begin_an_outage():
    """A request made during the outage may time out after it, but starts no new outage."""
    outage = queue_outage()
    with capture_logs() as lines:
        outage.record_failure(OSError(), time.monotonic())
        asked_meanwhile = time.monotonic()
        outage.record_success(time.monotonic())
        outage.record_failure(TimeoutError(), asked_meanwhile)
    assert not outage.is_down
    assert outage_events(lines) == ["queue.unreachable", "queue.recovered"]


def test_threads_that_fail_together_log_one_outage():
    """Any one of the threads logs the outage."""
    outage = queue_outage()
    together = threading.Barrier(8)

    def fail() -> None:
        together.wait()
        for _ in range(100):
            outage.record_failure(OSError(), time.monotonic())

    threads = [threading.Thread(target=fail) for _ in range(8)]
    with capture_logs() as lines:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outage_events(lines) == ["queue.unreachable"]


@pytest.mark.parametrize("kind", CONNECTION_USABLE_ERRORS)
async def test_contention_is_logged_and_is_no_outage(kind: type[Exception]):
    """A full disk or a lock is logged each time without testing the connection, because Postgres
    has answered.
    """
    pool = asyncpg.create_pool("postgresql://127.0.0.1:1/none", min_size=0)
    with capture_logs() as lines:
        await Outages().handle_transient_error(pool, kind("it was in the way"))
    assert outage_events(lines) == ["worker.interrupted"]
    assert lines[0]["error"] == kind.__name__
