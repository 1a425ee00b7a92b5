"""Structured logs: one JSON object a line on standard output."""

import json
import os
import time
import traceback
from contextlib import contextmanager


class _Log:
    def _write(self, level, event, exc_info=None, **facts):
        line = {"timestamp": time.time(), "level": level, "event": event, **facts}
        if exc_info is not None:
            line["traceback"] = "".join(traceback.format_exception(exc_info))
        os.write(1, json.dumps(line, default=str).encode() + b"\n")

    def info(self, event, **facts):
        self._write("info", event, **facts)

    def warning(self, event, **facts):
        self._write("warning", event, **facts)

    def error(self, event, **facts):
        self._write("error", event, **facts)


def get():
    return _Log()


def configure(settings):
    pass


@contextmanager
def bound(**facts):
    yield
