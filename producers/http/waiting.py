"""Waiting for a job on behalf of a caller, by `Prefer: wait=N` (RFC 7240)."""

import re
import time
from typing import Annotated

from fastapi import Depends, Header, Response

from db import jobs
from producers.http.here import Here
from schemas.outcomes import JobState

MOST_SECONDS = 25
"""Routers of platforms give up an answer that has not begun after 30 seconds."""

_AT_WORK = (JobState.PLANNING, JobState.RUNNING)
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.5
_wait = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:$|[,;])', re.IGNORECASE).search


def _preferred_seconds(
    response: Response,
    prefer: Annotated[
        str | None,
        Header(
            description=f"`wait=N`: answer when the job neither waits to be planned nor is worked"
            f" any more, or after N seconds, {MOST_SECONDS} at most.",
            examples=["wait=10"],
        ),
    ] = None,
) -> int:
    found = _wait(prefer or "")
    if found is None:
        return 0
    seconds = min(int(found[1]), MOST_SECONDS)
    response.headers["Preference-Applied"] = f"wait={seconds}"
    return seconds


PreferredWait = Annotated[int, Depends(_preferred_seconds)]
"""A handler's parameter: for how many seconds the caller would wait for the job."""


async def wait_for_rest(here: Here, job_id: int, seconds: float) -> None:
    """Wait until nothing is done about the job, neither planning nor work.

    For at most so many seconds, and not when the process is to end. Between two looks at it the
    connection is given back.
    """
    until = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while (left := until - time.monotonic()) > 0:
        async with here.pool.acquire() as connection:
            if await jobs.state_of(connection, job_id) not in _AT_WORK:
                return
        if await here.closes_within(min(pause, left)):
            return
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
