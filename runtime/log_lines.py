"""Render an event as one line of bytes, without secrets and short enough to be written whole."""

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from structlog.dev import ConsoleRenderer
from structlog.processors import LogfmtRenderer

MAX_LINE_BYTES = 4000
"""A write of up to 4,096 bytes to a pipe is never mixed with another process's."""

REDACTED = "[redacted]"

# Also the @ of a URL and the fullwidth one.
_AT = re.compile("@|%40|\uff20")
_QUOTED_LOCAL_PART = re.compile(rf'"[^"\n]{{0,64}}"(?={_AT.pattern})')
_WORD = re.compile(r"\S+")
_SECRET = re.compile(
    r"\b(password|passwd|secret|token|api_?key)\b(\W{0,3}[=:]\W{0,3})[^\s&,;'\"]+", re.IGNORECASE
)
# Tried in turn until the line is short enough.
_STRING_LIMITS = (MAX_LINE_BYTES, 1000, 250, 60, 12)
_REQUIRED_KEYS = ("correlation_id", "job", "chunk")

EventDict = Mapping[str, Any]
Renderer = Callable[[dict[str, Any]], str]


def redact(text: str) -> str:
    """Return the text without anything that looks like an address or a secret.

    Every word with an @ is removed: addresses, and URLs that carry a password. This is a safety net
    and no license to log either.
    """
    # Nearly every text has none of these, which is fast to check.
    if "@" in text or "%40" in text or "\uff20" in text:
        text = _QUOTED_LOCAL_PART.sub("", text)
        text = _WORD.sub(lambda word: REDACTED if _AT.search(word[0]) else word[0], text)
    if "=" in text or ":" in text:
        text = _SECRET.sub(rf"\1\2{REDACTED}", text)
    return text


def render_line(head: EventDict, facts: EventDict, render: Renderer) -> bytes:
    """Return one line of at most `MAX_LINE_BYTES`, with its end.

    It begins with `head`, unchanged: its content and length are known.
    """
    for limit in _STRING_LIMITS:
        line = _encode(render({**head, **_to_plain_dict(facts, limit)}))
        if len(line) <= MAX_LINE_BYTES:
            return line
        facts = {**facts, "truncated": True}
    kept = {key: facts[key] for key in _REQUIRED_KEYS if key in facts}
    return _encode(render({**head, **_to_plain_dict(kept | {"truncated": True}, 100)}))


def _encode(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _to_plain(value: Any, limit: int) -> Any:
    """Convert the value for JSON, with every text redacted and cut to `limit` characters."""
    # The most frequent types come first.
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        return _clean_text(str(value), limit)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (dict, Mapping)):
        return _to_plain_dict(value, limit)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_to_plain(item, limit) for item in value]
    return _clean_text(str(value), limit)


def _to_plain_dict(facts: Mapping[Any, Any], limit: int) -> dict[str, Any]:
    plain = {}
    for key, value in facts.items():
        # Most facts are numbers, which need no call.
        if not (value is None or isinstance(value, int)):
            value = _to_plain(value, limit)  # noqa: PLW2901 - it is the same fact
        plain[_clean_key(str(key), limit)] = value
    return plain


@lru_cache(maxsize=1024)
def _clean_key(key: str, limit: int) -> str:
    """Return the key as it is written; cached, since a few keys are in every line."""
    return _clean_text(key, limit)


def _clean_text(text: str, limit: int) -> str:
    # Redact before cutting: the tail may be what shows that the text is an address.
    text = redact(text)
    return text if len(text) <= limit else text[:limit] + "..."


def render_json(facts: dict[str, Any]) -> str:
    """Write the facts as a JSON object in ASCII."""
    return json.dumps(facts)


_LOGFMT = LogfmtRenderer(bool_as_flag=False)


def render_logfmt(facts: dict[str, Any]) -> str:
    """Write the facts as key=value pairs; nested ones get dotted keys."""
    flat: dict[str, Any] = {}
    _flatten(facts, "", flat)
    return _LOGFMT(None, "", flat)


def _flatten(facts: EventDict, prefix: str, flat: dict[str, Any]) -> None:
    for key, value in facts.items():
        name = prefix + re.sub(r"[\x00-\x20=\"]", "_", key)
        if isinstance(value, dict):
            _flatten(value, f"{name}.", flat)
        elif isinstance(value, list):
            flat[name] = _escape_controls(",".join(map(str, value)))
        else:
            flat[name] = _escape_controls(value) if isinstance(value, str) else value


def _escape_controls(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", lambda control: f"\\x{ord(control[0]):02x}", text)


def console_renderer(*, colors: bool) -> Renderer:
    """Make a renderer for people who watch a terminal."""
    render = ConsoleRenderer(colors=colors, pad_event_to=20)
    return lambda facts: render(None, "", facts)
