"""Run commands in the tests' own process."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from typer.testing import CliRunner, Result

from cli import app
from cli.layout import UNLIMITED_WIDTH


def run_sluice(*arguments: str, stdin: str | None = None) -> Result:
    """Return the output and exit status of `sluice`; raise any unexpected exception.

    Lines are not wrapped, even if the tests run in a terminal, unless COLUMNS is set.
    """
    columns = {"COLUMNS": os.environ.get("COLUMNS", str(UNLIMITED_WIDTH))}
    with _logs_as_before():
        result = CliRunner().invoke(app, list(arguments), input=stdin, env=columns)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@contextmanager
def _logs_as_before() -> Iterator[None]:
    """Restore the logging setup afterwards: a command configures its process, which all tests
    share.
    """
    config, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        structlog.configure(**config)
        root.handlers = handlers
        root.setLevel(level)
