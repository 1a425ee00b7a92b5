"""Running commands in the tests' own process."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from typer.testing import CliRunner, Result

from cli import app
from cli.layout import UNLIMITED_WIDTH


def run_sluice(*arguments: str, stdin: str | None = None) -> Result:
    """What `sluice` wrote, and its exit status; raises what would have shown a traceback.

    Its lines are not broken, though the tests may run at a terminal, unless COLUMNS says so.
    """
    columns = {"COLUMNS": os.environ.get("COLUMNS", str(UNLIMITED_WIDTH))}
    with _logs_as_before():
        result = CliRunner().invoke(app, list(arguments), input=stdin, env=columns)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@contextmanager
def _logs_as_before() -> Iterator[None]:
    """A command sets up the logs of its process, which here is that of all tests."""
    config, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        structlog.configure(**config)
        root.handlers = handlers
        root.setLevel(level)
