"""The checks of Postgres and Redis in a web process continue after any error."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from tests.conftest import settings_for
from tests.kit.waiting import wait_until_async
from web import server_monitor
from web.server_monitor import ServerMonitor


@pytest.fixture(autouse=True)
def _frequent_checks(monkeypatch):
    """Check both servers many times a second."""
    for name in ("CHECK_SECONDS", "OUTAGE_CHECK_SECONDS"):
        monkeypatch.setattr(server_monitor, name, 0.01)


@asynccontextmanager
async def monitoring(settings):
    """Run a monitor; check at the end that it still ran, and that it leaves no task."""
    before = asyncio.all_tasks()
    running = asyncio.create_task(ServerMonitor(settings).run())
    yield
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
    assert asyncio.all_tasks() <= before


async def checked(monkeypatch, times: int, error: Exception | None = None) -> None:
    """Wait until Postgres was checked; the first check raises the error."""
    pings = 0
    ping = server_monitor.ping

    async def counted(connection) -> None:
        nonlocal pings
        pings += 1
        if error and pings == 1:
            raise error
        await ping(connection)

    async def enough() -> bool:
        return pings >= times

    monkeypatch.setattr(server_monitor, "ping", counted)
    await wait_until_async(enough, deadline_seconds=30, what="Postgres was checked")


async def test_an_unexpected_error_is_logged_and_ends_no_check(settings, monkeypatch):
    """The log names the check that failed. It goes on, and the shutdown ends both checks."""
    with capture_logs() as lines:
        async with monitoring(settings):
            await checked(monkeypatch, 5, ValueError("ann@example.com"))
    assert [(line["event"], line["task"], line["error"]) for line in lines] == [
        ("web.task_failed", "check_database", "ValueError")
    ]


async def test_a_database_without_tables_is_no_error(servers, empty_database_url, monkeypatch):
    """Before `sluice migrate`, Postgres answers and nothing is stored to compare with."""
    with capture_logs() as lines:
        async with monitoring(settings_for(servers.redis_url, empty_database_url)):
            await checked(monkeypatch, 5)
    assert lines == []
