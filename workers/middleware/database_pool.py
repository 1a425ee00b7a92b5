"""The worker's connections to Postgres."""

import asyncio
from typing import Any

from dramatiq.asyncio import async_to_sync
from dramatiq.middleware import Middleware

from db.pool import make_pool
from workers.context import WorkerContext
from workers.shutdown import CLOSE_POOL_SECONDS


class DatabasePool(Middleware):
    """Opens the pool on the worker's event loop, and closes it before the loop stops."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def before_worker_boot(self, _broker: Any, worker: Any) -> None:
        """Make the pool. It connects when it is first used, so a boot never fails here."""
        settings = self._context.settings
        assert settings.database_url is not None
        pool = async_to_sync(make_pool)(
            settings.database_url,
            # One per thread, one for the sweeper.
            size=settings.pool_size or worker.worker_threads + 1,
            pgbouncer=settings.pgbouncer,
            application=self._context.name,
        )
        self._context.use_pool(pool)

    def after_worker_shutdown(self, _broker: Any, _worker: Any) -> None:
        """Close the pool; connections that are still in use are cut, and roll back."""
        pool = self._context.pool
        self._context.use_pool(None)

        async def close() -> None:
            try:
                await asyncio.wait_for(pool.close(), CLOSE_POOL_SECONDS)
            except TimeoutError:
                pool.terminate()

        async_to_sync(close)()
