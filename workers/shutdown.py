"""What happens on SIGTERM, from the signal to the end of a worker process.

SIGHUP, which a closing terminal sends, has the same effect. So has Ctrl-C: worker processes ignore
its SIGINT, and dramatiq's master sends them SIGTERM in its place. A worker usually ends 1 to 3
seconds after the signal, and 13 at most. Seconds below are the latest after the signal.

1. (0 s) `stop_on_signals` sets `WorkerContext.stopping` and calls dramatiq's handler.
2. From now on each slice (`workers.slices`) ends after its present chunk: the chunk commits, the
   lane is released and enqueued for another process. No webhook delivery starts.
3. (1 s) dramatiq's main thread, which wakes once a second, stops the worker. The queue listener
   wakes the consumers. Sweeper, queue statistics and deliveries are cancelled
   (`middleware.periodic_tasks`). A delivery that was cut off is made again, by another process.
4. (5 s) Worker threads end: idle ones within `IDLE_THREAD_MS`, the others with their slice. After
   `WORKER_SHUTDOWN_MS` dramatiq no longer waits for them.
5. (9 s) Consumers end, with the same time limit. Messages that were fetched and not started go back
   to Redis. Without Redis the sweeper of another process enqueues their lanes.
6. (11 s) `worker.stopped` is logged. The pool closes within `CLOSE_POOL_SECONDS`, or its
   connections are cut: Postgres rolls back what was not committed.
7. (12 s) The event loop and the queue listener end, and the process exits with status 0.
8. (13 s) The master, which checks once a second, exits with status 0.

Each call to a Redis that does not answer adds up to 5 seconds. If a rule blocks the event loop, the
pool cannot close: the platform kills the process, usually after 30 seconds, or else the watchdog
does. Then, as after any SIGKILL, the sweeper of another process finds the lanes. A process that
still waits for its servers to start exits immediately.
"""

import itertools
import os
import signal
import threading
from types import FrameType

IDLE_THREAD_MS = 200
"""How often an idle thread checks whether to end. Consumers wait for the queue listener instead.
dramatiq's 1,000 would make each shutdown take a second longer."""

WORKER_SHUTDOWN_MS = 4_000
"""How long dramatiq waits for worker threads, and then for consumers. A chunk takes a tenth of it,
and a platform sends SIGKILL after 30 seconds."""

CLOSE_POOL_SECONDS = 2.0
"""How long connections to Postgres may finish their work before they are cut."""


def stop_on_signals(stopping: threading.Event) -> None:
    """Set `stopping` on the first SIGTERM or SIGHUP, and ignore all later ones.

    Call it in the main thread of a worker process, after dramatiq has set its own handler. A
    platform signals every process and dramatiq's master forwards the signal, so a worker process
    gets it twice. To dramatiq, the second is an order to exit in the middle of its threads' work.
    """
    dramatiq_handler = signal.getsignal(signal.SIGTERM)
    # The second signal may interrupt the handling of the first. Taking the next number is atomic.
    # To set an event in the middle of setting it, in the same thread, would deadlock.
    earlier_signals = itertools.count()

    def handle(signum: int, frame: FrameType | None) -> None:
        if next(earlier_signals):
            return
        stopping.set()
        if callable(dramatiq_handler):
            dramatiq_handler(signum, frame)

    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, handle)


def end_on_hangup() -> None:
    """Have dramatiq's master treat SIGHUP as SIGTERM. Call it before `dramatiq.cli.main`.

    To dramatiq, SIGHUP is an order to end its processes and to execute its own script again. The
    script of `python -m workers` is not executable, so the master would end with a traceback. Only
    the set of signals that it handles can change that; `dramatiq.cli` does not document it.
    """
    from dramatiq import cli  # noqa: PLC0415 - dramatiq reads the environment when imported

    cli.HANDLED_SIGNALS.remove(signal.SIGHUP)
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
