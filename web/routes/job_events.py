"""Following a job as it goes, by server-sent events."""

import json
import time
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Depends, Response

from db import jobs
from db.jobs import Moved
from producers.keys import Caller
from schemas.outcomes import ENDED
from web.auth import JobsReader
from web.job_responses import percent
from web.problems import (
    INVALID,
    NOT_FOUND,
    RETRY_SECONDS,
    TOO_MANY_REQUESTS,
    Problem,
    answers,
)
from web.request_notes import waiting_on_purpose
from web.routes.jobs import JobId, require_job
from web.state import Here, HereDep
from web.streaming import Stream

router = APIRouter(tags=["jobs"])

LOOK_SECONDS = 0.5
KEY_SECONDS = 2.0
"""How often it is looked whether the key counts still."""

QUIET_SECONDS = 15.0
"""After so long without news a comment is sent, so that nobody between takes the line for dead."""

_EXAMPLE = """\
event: progress
data: {"state": "running", "done": 5000, "planned": 10000, "percent": 50.0}

event: ended
data: {"state": "completed", "done": 10000, "planned": 10000, "percent": 100.0}

"""


async def _place(here: HereDep, caller: JobsReader) -> AsyncGenerator[None, None]:
    """One of the streams that a key may have open, until the answer has ended, whoever ends it.

    Taken where it is looked for: requests that come together must not all find the last one free.
    """
    most = here.settings.max_event_streams
    if here.event_streams[caller.key_id] >= most:
        raise Problem(
            TOO_MANY_REQUESTS,
            f"This key follows {most} jobs already, which is the most of one key; nothing was done."
            " End another stream first, or ask GET /v1/jobs/{job_id} from time to time.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    here.event_streams[caller.key_id] += 1
    try:
        yield
    finally:
        here.event_streams[caller.key_id] -= 1


@router.get(
    "/v1/jobs/{job_id}/events",
    operation_id="follow_job",
    summary="Follow a job",
    response_class=Response,
    response_description="Events, from how far the job is now until it has ended.",
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}}
        },
        **answers(INVALID, NOT_FOUND),
    },
    dependencies=[Depends(_place)],
)
async def follow_job(job_id: JobId, here: HereDep, caller: JobsReader) -> Response:
    """Tell how far the job is, each time that changes: `event: progress`.

    `done` and `planned` count pairs of a contact and a field. After `event: ended` the stream ends.
    It may end before, when the service is restarted: then ask again. It ends within seconds when
    the key is revoked or expires.
    """
    await require_job(here, caller, job_id)
    return Stream(
        _events(here, caller, job_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _events(here: Here, caller: Caller, job_id: int) -> AsyncGenerator[str, None]:
    told: Moved | None = None
    told_at = key_seen_at = time.monotonic()
    while True:
        if time.monotonic() - key_seen_at > KEY_SECONDS:
            if not await here.known_keys.counts(caller):
                return
            key_seen_at = time.monotonic()
        async with here.pool.acquire() as connection:
            moved = await jobs.moved(connection, job_id)
        assert moved is not None
        # Whether a worker has it in hand at the moment is no news to anybody.
        moved = moved._replace(taken=False)
        if moved != told:
            told, told_at = moved, time.monotonic()
            yield _event(moved)
        elif time.monotonic() - told_at > QUIET_SECONDS:
            told_at = time.monotonic()
            yield ": still there\n\n"
        if moved.state in ENDED:
            return
        with waiting_on_purpose():
            closes = await here.closes_within(LOOK_SECONDS)
        if closes:
            return


def _event(moved: Moved) -> str:
    facts = {
        "state": moved.state,
        "done": moved.done,
        "planned": moved.planned,
        "percent": percent(moved),
    }
    name = "ended" if moved.state in ENDED else "progress"
    return f"event: {name}\ndata: {json.dumps(facts)}\n\n"
