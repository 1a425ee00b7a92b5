"""The tasks that no message starts: sweeper, queue statistics and webhook delivery."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import Middleware

from workers.context import WorkerContext
from workers.server_outages import Outages
from workers.sweeper import log_queue_stats, sweep
from workers.webhook_delivery import POLL_SECONDS, WebhookDelivery


class PeriodicTasks(Middleware):
    """Runs the periodic tasks on the worker's event loop."""

    def __init__(self, context: WorkerContext, outages: Outages) -> None:
        self._context = context
        self._outages = outages
        self._delivery = WebhookDelivery(context)
        self._tasks: list[Any] = []

    def after_worker_boot(self, _broker: Any, _worker: Any) -> None:
        """Start the tasks."""
        thread = get_event_loop_thread()
        assert thread is not None
        settings = self._context.settings
        self._tasks = [
            asyncio.run_coroutine_threadsafe(self._every(seconds, task), thread.loop)
            for seconds, task in (
                (settings.sweep_seconds, sweep),
                (settings.queue_stats_seconds, log_queue_stats),
                (POLL_SECONDS, self._delivery.deliver_due),
            )
        ]

    def before_worker_shutdown(self, _broker: Any, _worker: Any) -> None:
        """Stop the tasks before the pool closes."""
        for task in self._tasks:
            task.cancel()
        thread = get_event_loop_thread()
        assert thread is not None
        thread.loop.call_soon_threadsafe(self._delivery.stop)

    async def _every(
        self, seconds: float, task: Callable[[WorkerContext], Awaitable[None]]
    ) -> None:
        while True:
            # Random, so that processes do not run it at the same time.
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))
            await self._outages.run_guarded(self._context, task(self._context), task=task.__name__)
