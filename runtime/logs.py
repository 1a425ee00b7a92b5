"""Structured logs: `log.info(events.CHUNK_PROCESSED, job=7, ...)` is one line on standard output.

One line is one write to a file descriptor. `sys.stdout` is not used: in dramatiq's worker
processes it is a pipe that ends in the parent's standard error.
"""

import logging
import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

from runtime import events
from runtime.event_keys import Event
from runtime.log_lines import Renderer, console_renderer, render_json, render_line, render_logfmt
from runtime.settings import LogLevel, Settings

STANDARD_OUTPUT = 1
STANDARD_ERROR = 2

_FRAMES = 8
_OWN_FRAMES = 3
_ROOT = Path(__file__).parents[1]
_ROOMS = ("schemas", "actions", "db", "runtime", "engine", "workers", "producers", "cli", "web")
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_HEAD = ("timestamp", "level", "event")

bind_context = bound_contextvars
"""Add keys to every line in a context: `with bind_context(correlation_id=...)`."""


class Log:
    """Write the events that `runtime.events` declares, and no others."""

    check: ClassVar[Callable[[Event, dict[str, Any]], None] | None] = None
    """Called with each line; tests raise here for what `runtime.events` does not declare."""

    def debug(self, event: Event, **keys: Any) -> None:
        """Log what helps to find a defect."""
        self.write("debug", event, keys)

    def info(self, event: Event, **keys: Any) -> None:
        """Log what happened in normal operation."""
        self.write("info", event, keys)

    def warning(self, event: Event, **keys: Any) -> None:
        """Log what should not happen and was handled."""
        self.write("warning", event, keys)

    def error(self, event: Event, **keys: Any) -> None:
        """Log what a person must look at. `exc_info` takes an exception."""
        self.write("error", event, keys)

    @staticmethod
    def write(level: LogLevel, event: Event, keys: dict[str, Any]) -> None:
        """Write one line."""
        if Log.check is not None:
            Log.check(event, keys)
        getattr(structlog.get_logger(), level)(event.name, **keys)


def get_logger() -> Log:
    """Return the logger. It may be called before `configure`, for example at import."""
    return Log()


def configure(settings: Settings, *, descriptor: int = STANDARD_OUTPUT, **process: str) -> None:
    """Send this process's log lines, and those of its libraries, to `descriptor`.

    `process` is the key that names it on every line, `worker` or `web`; a line's own key wins.
    """
    level = _LEVELS[settings.log_level]
    structlog.configure(
        processors=[
            merge_contextvars,
            partial(_add_process_name, process),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _describe_exception_only,
            partial(_render, _renderer(settings, descriptor)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _DescriptorWriter(descriptor),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryHandler()]
    # In normal operation, the lines of libraries add nothing to the events.
    root.setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))


def drop_library_lines(unwanted: Callable[[logging.LogRecord], bool]) -> None:
    """Do not write those lines of libraries that are `unwanted`. Call it after `configure`."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not unwanted(record))


def _renderer(settings: Settings, descriptor: int) -> Renderer:
    terminal = os.isatty(descriptor)
    chosen = settings.log_format or ("console" if terminal else "json")
    if chosen == "console":
        return console_renderer(colors=terminal)
    return render_json if chosen == "json" else render_logfmt


class _DescriptorWriter:
    """The logger that structlog calls with each finished line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError:
            # The pipe is closed, or the disk is full. Only the line is lost; the work continues.
            pass

    debug = info = warning = error = critical = write


def _add_process_name(process: dict[str, str], _logger: Any, _method: str, facts: Any) -> Any:
    return {**facts, **process, **facts}


def _render(renderer: Renderer, _logger: Any, _method: str, facts: Any) -> bytes:
    head = {key: facts.pop(key) for key in _HEAD if key in facts}
    return render_line(head, facts, renderer)


def _describe_exception_only(_logger: Any, _method: str, facts: Any) -> Any:
    """Replace an exception by its class and place: its text may quote an address."""
    exception = facts.pop("exc_info", None)
    if exception is not None:
        facts["exception"] = describe_exception(exception)
    return facts


def describe_exception(exception: BaseException) -> str:
    """Return the exception's class and its innermost places, then the same for its causes."""
    told, seen = [], set()
    current: BaseException | None = exception
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        state = getattr(current, "sqlstate", None)
        kind = type(current).__name__ + (f" (SQLSTATE {state})" if state else "")
        places = _format_frames(traceback.extract_tb(current.__traceback__)[-_FRAMES:])
        told.append(f"{kind}, {places}" if places else kind)
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return "; from ".join(told)


def error_location(exception: BaseException) -> str | None:
    """Return where in this code the exception arose: the innermost places, without any text."""
    frames = traceback.extract_tb(exception.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    return _format_frames(own[-_OWN_FRAMES:]) or None


def _is_own(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _ROOMS


def describe_stack(frame: FrameType) -> str:
    """Return where a thread is: the innermost places of its stack, without source lines."""
    return _format_frames(traceback.extract_stack(frame)[-_FRAMES:])


def _format_frames(frames: list[traceback.FrameSummary]) -> str:
    return ", ".join(
        f"at {'/'.join(frame.filename.rsplit('/', 2)[-2:])}:{frame.lineno} in {frame.name}"
        for frame in reversed(frames)
    )


class _LibraryHandler(logging.Handler):
    """Write what libraries log by the standard module as the event `library.logged`."""

    def emit(self, record: logging.LogRecord) -> None:
        level: LogLevel = "debug"
        for name, number in _LEVELS.items():
            if record.levelno >= number:
                level = name  # type: ignore[assignment]
        try:
            keys: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
            if record.exc_info:
                keys["exc_info"] = record.exc_info[1]
            Log.write(level, events.LIBRARY_LOGGED, keys)
        except Exception:  # noqa: BLE001 - as every handler of the standard module does
            self.handleError(record)
