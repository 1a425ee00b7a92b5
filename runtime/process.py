"""The name of a process in logs and in Postgres, and the log line of one that cannot start."""

import os
import socket
from typing import Literal

from runtime import events, logs
from runtime.settings import Settings, log_settings
from schemas.errors import MigrationLockTimeout, SchemaMismatch, SettingsError, SluiceError

log = logs.get_logger()

_LOGGABLE_ERRORS = (SettingsError, SchemaMismatch, MigrationLockTimeout)
"""Errors whose text quotes no value. The others may quote a server's message or address."""


def process_name(settings: Settings) -> str:
    """Return the name of this process: its dyno or host, and its process id."""
    return f"{settings.dyno or socket.gethostname()}.{os.getpid()}"


def log_startup_failure(
    error: SluiceError,
    process: Literal["worker", "web", "release"],
    *,
    status: int,
    descriptor: int = logs.STANDARD_OUTPUT,
) -> None:
    """Write `process.start_failed`, except at a terminal, where the error itself is shown."""
    settings = log_settings()
    if settings.log_format is None and os.isatty(descriptor):
        return
    logs.configure(settings, descriptor=descriptor)
    cause = error.__cause__
    log.error(
        events.PROCESS_START_FAILED,
        process=process,
        error=type(error).__name__,
        cause=type(cause).__name__ if cause else None,
        exit_status=status,
        message=str(error) if isinstance(error, _LOGGABLE_ERRORS) else None,
    )
