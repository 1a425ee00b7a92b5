"""One event loop per worker process."""

from typing import Any

import uvloop
from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.middleware import AsyncIO


class EventLoop(AsyncIO):
    """dramatiq's own, on uvloop, in a thread that never keeps a process from ending.

    dramatiq's thread is no daemon: a boot that failed, or a second SIGTERM, left processes that
    lived on until SIGKILL.
    """

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Start the loop."""
        del broker, worker
        thread = EventLoopThread(self.logger)
        thread.daemon = True
        thread.loop = uvloop.new_event_loop()
        thread.start(timeout=1.0)
        set_event_loop_thread(thread)
