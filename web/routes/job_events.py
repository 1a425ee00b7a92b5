"""Following a job as it goes, by server-sent events."""

import json
import time
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Depends, Response

from db import job_progress
from db.job_progress import JobProgress
from producers.keys import Caller
from schemas.outcomes import FINAL_STATES
from web.auth import JobsReader
from web.job_responses import compute_percent
from web.problems import (
    INVALID,
    NOT_FOUND,
    RETRY_SECONDS,
    TOO_MANY_REQUESTS,
    Problem,
    problem_responses,
)
from web.request_notes import exclude_from_duration
from web.routes.jobs import JobId, require_job
from web.state import AppState, State
from web.streaming import ClosingStreamingResponse

router = APIRouter(tags=["jobs"])

CHECK_SECONDS = 0.5
KEY_CHECK_SECONDS = 2.0
"""How often it is looked whether the key counts still."""

HEARTBEAT_SECONDS = 15.0
"""After so long without news a comment is sent, so that nobody between takes the line for dead."""

_EXAMPLE = """\
event: progress
data: {"state": "running", "done": 5000, "planned": 10000, "percent": 50.0}

event: ended
data: {"state": "completed", "done": 10000, "planned": 10000, "percent": 100.0}

"""


async def _hold_stream(state: State, caller: JobsReader) -> AsyncGenerator[None, None]:
    """Take one of the key's places for open streams, until the response has ended.

    It is taken as soon as it is found free: concurrent requests must not all find the last one.
    """
    most = state.settings.max_concurrent_streams
    if state.event_streams[caller.key_id] >= most:
        raise Problem(
            TOO_MANY_REQUESTS,
            f"This key follows {most} jobs already, which is the most of one key; nothing was done."
            " End another stream first, or ask GET /v1/jobs/{job_id} from time to time.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    state.event_streams[caller.key_id] += 1
    try:
        yield
    finally:
        state.event_streams[caller.key_id] -= 1


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
        **problem_responses(INVALID, NOT_FOUND),
    },
    dependencies=[Depends(_hold_stream)],
)
async def follow_job(job_id: JobId, state: State, caller: JobsReader) -> Response:
    """Tell how far the job is, each time that changes: `event: progress`.

    `done` and `planned` count pairs of a contact and a field. After `event: ended` the stream ends.
    It may end before, when the service is restarted: then ask again. It ends within seconds when
    the key is revoked or expires.
    """
    await require_job(state, caller, job_id)
    return ClosingStreamingResponse(
        _stream_events(state, caller, job_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _stream_events(state: AppState, caller: Caller, job_id: int) -> AsyncGenerator[str, None]:
    told: JobProgress | None = None
    told_at = key_seen_at = time.monotonic()
    while True:
        if time.monotonic() - key_seen_at > KEY_CHECK_SECONDS:
            if not await state.api_key_cache.is_active(caller):
                return
            key_seen_at = time.monotonic()
        async with state.pool.acquire() as connection:
            moved = await job_progress.get_progress(connection, caller.account_id, job_id)
        assert moved is not None
        # Whether a worker has it in hand at the moment is no news to anybody.
        moved = moved._replace(is_held=False)
        if moved != told:
            told, told_at = moved, time.monotonic()
            yield _format_event(moved)
        elif time.monotonic() - told_at > HEARTBEAT_SECONDS:
            told_at = time.monotonic()
            yield ": still there\n\n"
        if moved.state in FINAL_STATES:
            return
        with exclude_from_duration():
            is_shutting_down = await state.wait_for_shutdown(CHECK_SECONDS)
        if is_shutting_down:
            return


def _format_event(moved: JobProgress) -> str:
    facts = {
        "state": moved.state,
        "done": moved.done,
        "planned": moved.planned,
        "percent": compute_percent(moved),
    }
    name = "ended" if moved.state in FINAL_STATES else "progress"
    return f"event: {name}\ndata: {json.dumps(facts)}\n\n"
