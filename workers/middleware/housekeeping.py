"""The sweeper, the measurements and the notices, beside the messages."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import Middleware

from db.errors import NOT_THE_WORKS_FAULT
from workers.context import WorkerContext
from workers.outages import Outages
from workers.sweeper import measure, sweep
from workers.webhook_delivery import LOOK_SECONDS, Notices


class Housekeeping(Middleware):
    """Runs the periodic tasks on the worker's event loop."""

    def __init__(self, context: WorkerContext, outages: Outages) -> None:
        self._context = context
        self._outages = outages
        self._notices = Notices(context, outages)
        self._tasks: list[Any] = []

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Start the tasks."""
        del broker, worker
        thread = get_event_loop_thread()
        assert thread is not None
        settings = self._context.settings
        self._tasks = [
            asyncio.run_coroutine_threadsafe(self._every(seconds, task), thread.loop)
            for seconds, task in (
                (settings.sweep_seconds, sweep),
                (settings.measure_seconds, measure),
                (LOOK_SECONDS, self._notices.deliver_notices),
            )
        ]

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Stop the tasks before the pool closes."""
        del broker, worker
        for task in self._tasks:
            task.cancel()
        thread = get_event_loop_thread()
        assert thread is not None
        thread.loop.call_soon_threadsafe(self._notices.stop)

    async def _every(
        self, seconds: float, task: Callable[[WorkerContext], Awaitable[None]]
    ) -> None:
        while True:
            # Not all processes at once.
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))
            asked_at = time.monotonic()
            try:
                await task(self._context)
                self._outages.database.answers(asked_at)
            except NOT_THE_WORKS_FAULT as error:
                await self._outages.work_fails(self._context.pool, error)
            except Exception as error:  # noqa: BLE001 - the next round may go better
                self._outages.task_fails(task.__name__, error)
