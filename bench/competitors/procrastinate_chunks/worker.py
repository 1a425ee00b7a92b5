"""A worker process: `python -m bench.competitors.procrastinate_chunks.worker`, once per process."""

import asyncio

from bench.competitors.procrastinate_chunks.app import CONCURRENCY, QUEUE, app, pool

_LOOK_AGAIN_SECONDS = 0.2


async def main() -> None:
    """Process the queue until a signal arrives; the driver creates the queue's tables."""
    async with app.open_async(), pool:
        await _until_prepared()
        # Notifications announce new jobs. The short interval is for retried ones.
        await app.run_worker_async(
            queues=[QUEUE], concurrency=CONCURRENCY, fetch_job_polling_interval=1.0
        )


async def _until_prepared() -> None:
    while True:
        if await app.check_connection_async():
            return
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
