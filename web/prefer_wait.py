"""Waiting for a job on behalf of a caller, by `Prefer: wait=N` (RFC 7240)."""

import re
import time
from collections.abc import Collection
from typing import Annotated

from fastapi import Depends, Header, Response

from db import jobs
from producers.keys import Caller
from schemas.outcomes import JobState
from web.request_notes import note_job, waiting_on_purpose
from web.state import Here

MOST_SECONDS = 25
"""Routers of platforms give up an answer that has not begun after 30 seconds."""

MAX_WAITING_PER_KEY = 100
"""So many requests of one key wait in a process at a time; one more is answered without waiting."""

COUNT_SECONDS = 20
"""For so long a plan is waited for where the caller does not say; a million contacts take a few."""

AT_WORK = frozenset({JobState.PLANNING, JobState.RUNNING})
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.5
_wait = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:$|[,;])', re.IGNORECASE).search


async def _preferred_seconds(
    response: Response,
    prefer: Annotated[
        str | None,
        Header(
            description=f"`wait=N`: answer when the job neither waits to be planned nor is worked"
            f" any more, or after N seconds, {MOST_SECONDS} at most.",
            examples=["wait=10"],
        ),
    ] = None,
) -> int | None:
    found = _wait(prefer or "")
    if found is None:
        return None
    seconds = min(int(found[1]), MOST_SECONDS)
    response.headers["Preference-Applied"] = f"wait={seconds}"
    return seconds


PreferredWait = Annotated[int | None, Depends(_preferred_seconds)]
"""A handler's parameter: for how many seconds the caller would wait for the job, if it says so."""


async def wait_for_rest(
    here: Here,
    caller: Caller,
    job_id: int,
    seconds: float,
    *,
    response: Response,
    busy: Collection[JobState] = AT_WORK,
) -> None:
    """Wait until the job is in no `busy` state: neither planned nor worked, where none is named.

    For at most so many seconds, and not when the process is to end, or as many requests of the key
    wait already as may. Between two looks at it the connection is given back.
    """
    note_job(job_id)
    if not seconds:
        return
    if here.waiting[caller.key_id] >= MAX_WAITING_PER_KEY:
        del response.headers["Preference-Applied"]
        return
    here.waiting[caller.key_id] += 1
    try:
        await _watch(here, job_id, seconds, busy)
    finally:
        here.waiting[caller.key_id] -= 1
        if not here.waiting[caller.key_id]:
            del here.waiting[caller.key_id]


async def _watch(here: Here, job_id: int, seconds: float, busy: Collection[JobState]) -> None:
    until = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while (left := until - time.monotonic()) > 0:
        async with here.pool.acquire() as connection:
            if await jobs.state_of(connection, job_id) not in busy:
                return
        with waiting_on_purpose():
            closes = await here.closes_within(min(pause, left))
        if closes:
            return
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
