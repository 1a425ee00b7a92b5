"""Messages for hooks: forms, signed events, and the log's account of rejected ones."""

import json
import time
from collections.abc import Iterable
from typing import Any

from producers.hook_events import InvalidEvent, read_events
from producers.hook_fields import HookPost
from producers.hook_forms import read_form
from producers.hook_json import Field
from producers.hook_opt_outs import HookOptOut
from runtime.signing import signature
from tests.kit.recipients import (
    ANN,
)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def event(**changes):
    """Return an event; a change to None removes a member."""
    body = {"event_id": "e1", "address": ANN, "kind": "feedback"} | changes
    return {name: value for name, value in body.items() if value is not None}


def signed(secret, body, *, at=None):
    """Return the headers that sign a body at a Unix time, by default now."""
    timestamp = str(int(time.time() if at is None else at))
    return {"Sluice-Timestamp": timestamp, "Sluice-Signature": signature(secret, timestamp, body)}


async def post_events(http, hook, events, **how):
    """Post signed events to a hook."""
    body = json.dumps(events).encode()
    return await http.post(hook.events_path, content=body, headers=signed(hook.secret, body, **how))


def refusals(logs):
    """Return the hook and the reason of each rejected message."""
    return [(line["hook"], line["reason"]) for line in logs if line["event"] == "hook.rejected"]


def read_post(fields: Iterable[Field]) -> HookPost:
    """Return the only opt-out in the fields of a form."""
    (post,) = read_form(fields).posts
    return post


def read_event(given: Any) -> HookOptOut | InvalidEvent:
    """Return the only event of a message, passed as a JSON value."""
    (read,) = read_events(json.dumps(given).encode())
    return read
