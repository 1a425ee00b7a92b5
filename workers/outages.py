"""Saying once that Postgres went away, and once that it came back."""

from runtime import events, logs

log = logs.get()


class Outages:
    """What this process knows about Postgres; one line per outage, not one per attempt."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._down = False

    def database_fails(self, error: BaseException) -> None:
        """Postgres did not do what it was asked, through no fault of the work."""
        if not self._down:
            log.warning(
                events.DATABASE_UNREACHABLE, error=type(error).__name__, worker=self._worker
            )
        self._down = True

    def database_answers(self) -> None:
        """Postgres answers."""
        if self._down:
            log.info(events.DATABASE_RECOVERED, worker=self._worker)
        self._down = False

    def task_fails(self, task: str, error: BaseException) -> None:
        """A periodic task raised what it never should."""
        log.error(
            events.WORKER_FAILED,
            worker=self._worker,
            task=task,
            error=type(error).__name__,
            exc_info=error,
        )
