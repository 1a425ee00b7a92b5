"""`Prefer: wait=N` (RFC 7240): requests that wait for a job."""

import re
import time
from collections.abc import Collection
from typing import Annotated

from fastapi import Depends, Header, Response

from db import job_progress
from producers.keys import Caller
from schemas.job_key import JobKey
from schemas.outcomes import JobState
from web.request_notes import exclude_from_duration, note_job
from web.state import AppState

MAX_WAIT_SECONDS = 25
"""Routers of platforms give up on a response that does not begin within 30 seconds."""

MAX_WAITING_PER_KEY = 100
"""How many requests of one key may wait in a process; one more is answered without waiting."""

PLAN_WAIT_SECONDS = 20
"""How long to wait for a plan by default; planning a million contacts takes a few seconds."""

BUSY_STATES = frozenset({JobState.PLANNING, JobState.RUNNING})
_MIN_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 0.5
_find_wait = re.compile(
    r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:$|[,;])', re.IGNORECASE
).search


async def _preferred_seconds(
    response: Response,
    prefer: Annotated[
        str | None,
        Header(
            description="`wait=N`: respond when the job is no longer planned or run, or after N"
            f" seconds, at most {MAX_WAIT_SECONDS}.",
            examples=["wait=10"],
        ),
    ] = None,
) -> int | None:
    found = _find_wait(prefer or "")
    if found is None:
        return None
    seconds = min(int(found[1]), MAX_WAIT_SECONDS)
    response.headers["Preference-Applied"] = f"wait={seconds}"
    return seconds


PreferredWait = Annotated[int | None, Depends(_preferred_seconds)]
"""A handler's parameter: how many seconds to wait for the job; None if the caller does not say."""


async def wait_until_idle(
    state: AppState,
    caller: Caller,
    job_id: int,
    seconds: float,
    *,
    response: Response,
    busy: Collection[JobState] = BUSY_STATES,
) -> None:
    """Wait until the job is in none of the `busy` states, for at most some seconds.

    Return early if the process shuts down, and immediately if too many requests of the key wait.
    The connection is free between two queries.
    """
    note_job(job_id)
    if not seconds:
        return
    if state.waiting_requests[caller.key_id] >= MAX_WAITING_PER_KEY:
        del response.headers["Preference-Applied"]
        return
    state.waiting_requests[caller.key_id] += 1
    try:
        await _poll_state(state, JobKey(caller.account_id, job_id), seconds, busy)
    finally:
        state.waiting_requests[caller.key_id] -= 1


async def _poll_state(
    state: AppState, job: JobKey, seconds: float, busy: Collection[JobState]
) -> None:
    until = time.monotonic() + seconds
    pause = _MIN_PAUSE_SECONDS
    while (left := until - time.monotonic()) > 0:
        async with state.pool.acquire() as connection:
            if await job_progress.get_state(connection, job) not in busy:
                return
        with exclude_from_duration():
            is_shutting_down = await state.wait_for_shutdown(min(pause, left))
        if is_shutting_down:
            return
        pause = min(pause * 1.5, _MAX_PAUSE_SECONDS)
