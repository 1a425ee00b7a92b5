"""One event loop per worker process."""

from typing import Any

import uvloop
from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.middleware import AsyncIO


class EventLoop(AsyncIO):
    """dramatiq's middleware, on uvloop, in a thread that never keeps a process from ending.

    dramatiq's thread is not a daemon. After a boot that failed, or after an exit without a
    shutdown, its process would live until SIGKILL.
    """

    def before_worker_boot(self, _broker: Any, _worker: Any) -> None:
        """Start the loop."""
        thread = EventLoopThread(self.logger)
        thread.daemon = True
        thread.loop.close()
        thread.loop = uvloop.new_event_loop()
        thread.start(timeout=1.0)
        set_event_loop_thread(thread)
