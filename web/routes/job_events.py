"""The progress of a job as server-sent events."""

import json
import time
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Depends, Response

from db import job_progress
from db.job_progress import JobProgress
from producers.job_view import compute_percent
from producers.keys import Caller
from schemas.job_key import JobKey
from schemas.outcomes import FINAL_STATES
from web import problems
from web.auth import JobsReader
from web.problems import Problem, problem_responses
from web.request_notes import exclude_from_duration
from web.routes.jobs import JobId, require_job
from web.state import AppState, State
from web.streaming import ClosingStreamingResponse

router = APIRouter(tags=["jobs"])

CHECK_SECONDS = 0.5
KEY_CHECK_SECONDS = 2.0
"""How often the key is checked."""

HEARTBEAT_SECONDS = 15.0
"""A comment is sent after this time without events, so that proxies keep the connection."""

_EXAMPLE = """\
event: progress
data: {"state": "running", "done": 5000, "planned": 10000, "percent": 50.0}

event: ended
data: {"state": "completed", "done": 10000, "planned": 10000, "percent": 100.0}

"""


async def _hold_stream(state: State, caller: JobsReader) -> AsyncGenerator[None, None]:
    """Count the stream as one of the key's until its response has ended.

    Checking and counting are one step, so that requests at the same time cannot exceed the limit.
    """
    limit = state.settings.max_concurrent_streams
    if state.event_streams[caller.key_id] >= limit:
        raise Problem(
            problems.TOO_MANY_REQUESTS,
            f"This key follows {limit} jobs already, which is its maximum. Nothing was done. Close"
            " another stream first, or poll GET /v1/jobs/{job_id}.",
            headers=problems.RETRY_HEADERS,
        )
    state.event_streams[caller.key_id] += 1
    try:
        yield
    finally:
        state.event_streams[caller.key_id] -= 1


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    response_description="Events, from the current progress to the end of the job.",
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}}
        },
        **problem_responses(problems.NOT_FOUND),
    },
    dependencies=[Depends(_hold_stream)],
)
async def follow_job(job_id: JobId, state: State, caller: JobsReader) -> Response:
    """Stream the progress of the job each time it changes, as `event: progress`.

    `done` and `planned` count pairs of a contact and a field. The stream ends after `event: ended`.
    If it ends earlier, the service was restarted: connect again. It ends within seconds if the key
    is revoked or expires.
    """
    await require_job(state, caller, job_id)
    return ClosingStreamingResponse(
        _stream_events(state, caller, job_id), media_type="text/event-stream"
    )


async def _stream_events(state: AppState, caller: Caller, job_id: int) -> AsyncGenerator[str, None]:
    sent: JobProgress | None = None
    sent_at = key_checked_at = time.monotonic()
    while True:
        if time.monotonic() - key_checked_at > KEY_CHECK_SECONDS:
            if not await state.api_key_cache.is_active(caller):
                return
            key_checked_at = time.monotonic()
        async with state.pool.acquire() as connection:
            progress = await job_progress.get_progress(
                connection, JobKey(caller.account_id, job_id)
            )
        assert progress is not None
        # Taking or releasing a lane is not reported as progress.
        progress = progress._replace(is_held=False)
        if progress != sent:
            sent, sent_at = progress, time.monotonic()
            yield _format_event(progress)
        elif time.monotonic() - sent_at > HEARTBEAT_SECONDS:
            sent_at = time.monotonic()
            yield ": still there\n\n"
        if progress.state in FINAL_STATES:
            return
        with exclude_from_duration():
            is_shutting_down = await state.wait_for_shutdown(CHECK_SECONDS)
        if is_shutting_down:
            return


def _format_event(progress: JobProgress) -> str:
    data = {
        "state": progress.state,
        "done": progress.done,
        "planned": progress.planned,
        "percent": compute_percent(progress),
    }
    name = "ended" if progress.state in FINAL_STATES else "progress"
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
