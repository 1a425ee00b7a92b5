"""The worker's connections to Postgres."""

import asyncio
from typing import Any

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import Middleware

from db.pool import make_pool
from workers.context import WorkerContext

CLOSE_SECONDS = 2.0


class DatabasePool(Middleware):
    """Opens the pool on the worker's event loop and closes it before the loop stops."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Make the pool. It connects when it is first used, so that a boot never fails here."""
        del broker
        settings = self._context.settings
        assert settings.database_url is not None
        self._context.use_pool(
            _on_loop(
                make_pool(
                    settings.database_url,
                    # One per thread, one for the sweeper.
                    size=settings.pool_size or worker.worker_threads + 1,
                    pgbouncer=settings.pgbouncer,
                    application=self._context.name,
                )
            )
        )

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Close the pool; connections that are still at work are cut, and roll back."""
        del broker, worker
        pool = self._context.pool
        self._context.use_pool(None)

        async def close() -> None:
            try:
                await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
            except TimeoutError:
                pool.terminate()

        _on_loop(close())


def _on_loop(coroutine: Any) -> Any:
    thread = get_event_loop_thread()
    assert thread is not None
    return thread.run_coroutine(coroutine)
