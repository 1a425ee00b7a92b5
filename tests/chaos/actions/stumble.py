"""An action of chaos runs that changes nothing and fails at one status as its params say.

It leaves a file in a folder for each failure, where the chaos run finds it.
"""

import os
import signal
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from actions.bulk_action import BulkAction, Params
from schemas.decisions import AddressState, Decision, leave
from schemas.statuses import Status

BLOCKED_SECONDS = 12.0
"""Longer than the workers' watchdog allows."""

_STEP_SECONDS = 0.05


class How(StrEnum):
    """The ways to fail."""

    RAISE = "raise"
    BLOCK = "block"
    KILL = "kill"


class StumbleParams(Params):
    """`over` is the status that it fails at, `tokens` the folder of files that permit a failure.

    It raises every time; it blocks the event loop, or kills its process, once for each token.
    """

    over: Status
    how: How
    tokens: str


class Stumble(BulkAction):
    """Leaves every address unchanged, unless it fails."""

    name = "stumble"
    summary = "Change nothing, and fail at one status."
    params = StumbleParams

    def decide(self, state: AddressState, params: StumbleParams) -> Decision:
        """Fail if the status is `params.over`."""
        if state.status == params.over:
            if params.how is How.RAISE:
                raise ValueError("the action raises at this status, name@example.com")
            _stumble(params.how, Path(params.tokens))
        return leave("stumbled_not")


def _stumble(how: How, tokens: Path) -> None:
    if not _took_one(tokens):
        return
    if how is How.KILL:
        (tokens / f"killed.{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (tokens / f"blocked.{os.getpid()}").touch()
    ends = time.monotonic() + BLOCKED_SECONDS
    while time.monotonic() < ends:
        time.sleep(_STEP_SECONDS)
    (tokens / f"unblocked.{os.getpid()}").touch()


def _took_one(tokens: Path) -> bool:
    for token in tokens.glob("token.*"):
        with suppress(FileNotFoundError):
            token.unlink()
            return True
    return False
