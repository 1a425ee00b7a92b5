"""What platforms ask: whether the process lives, can serve, and how many workers it takes."""

import hmac
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from db.migrate import latest_revision, require_current
from runtime.version import commit, version
from web.error_handlers import unknown_path_problem
from web.middleware.timeout import run_with_timeout
from web.queue_stats import QueueStats
from web.state import AppState, State

READY_TIMEOUT_SECONDS = 2.0
"""How long Postgres may take to prove that it answers."""

STATS_TIMEOUT_SECONDS = 5.0
"""How long it may take to measure the queues."""

router = APIRouter(tags=["operation"])


class HealthResponse(BaseModel):
    """That the process answers, or can serve."""

    status: str


class LivenessResponse(HealthResponse):
    """That the process answers, and which version it is."""

    version: str
    commit: str | None = Field(
        description="Null where neither the platform nor a checkout tells it."
    )
    revision: str = Field(description="The newest revision of the database that it knows.")


class QueueScale(BaseModel):
    """What waits in one queue."""

    queue: str
    pending_chunks: int
    planning_jobs: int
    oldest_seconds: float
    running_jobs: int
    work_seconds: float


class ScaleResponse(BaseModel):
    """What waits in all queues.

    `pending_chunks` is the number of chunks that could be worked on now. A job that waits for its
    plan counts as one, and is one of `planning_jobs`; a job that waits only for its end counts as
    one, too. `oldest_seconds` is how long the oldest of these has waited. `work_seconds` is how
    long the work would take one chunk after the other, and `due_webhooks` how many completion
    webhooks wait.

    `suggested_workers` is how many worker dynos are needed, from 1 to MAX_WORKERS.
    """

    queues: list[QueueScale]
    pending_chunks: int
    planning_jobs: int
    oldest_seconds: float
    running_jobs: int
    work_seconds: float
    due_webhooks: int
    suggested_workers: int


@router.get("/healthz", operation_id="healthz", summary="Tell whether the process lives")
async def healthz(state: State) -> LivenessResponse:
    """Return whether the process answers, and which version it runs."""
    return LivenessResponse(
        status="ok", version=version(), commit=commit(state.settings), revision=_newest_revision()
    )


@router.get("/readyz", operation_id="readyz", summary="Tell whether requests can be served")
async def readyz(state: State) -> HealthResponse:
    """Answer whether requests can be served.

    That takes a Postgres that answers, at this version's revision or a newer one that suits this
    version.
    """
    await run_with_timeout(READY_TIMEOUT_SECONDS, _require_ready(state))
    return HealthResponse(status="ready")


@router.get("/scale", operation_id="scale", summary="Tell how many workers the work takes")
async def scale(state: State) -> ScaleResponse:
    """Return what waits for workers, and how many workers are needed.

    The figures are a second old at most, so frequent requests cost little.
    """
    stats = await _read_queue_stats(state)
    queues = [QueueScale.model_validate(load, from_attributes=True) for load in stats.loads]
    return ScaleResponse(
        queues=queues,
        pending_chunks=sum(queue.pending_chunks for queue in queues),
        planning_jobs=sum(queue.planning_jobs for queue in queues),
        oldest_seconds=max(queue.oldest_seconds for queue in queues),
        running_jobs=sum(queue.running_jobs for queue in queues),
        work_seconds=sum(queue.work_seconds for queue in queues),
        due_webhooks=stats.due_webhooks,
        suggested_workers=stats.suggested_workers,
    )


@router.get("/hirefire", include_in_schema=False)
async def hirefire(
    state: State, hirefire_token: Annotated[str, Header()] = ""
) -> list[dict[str, Any]]:
    """Return the same for HireFire, which authenticates with its token."""
    expected = state.settings.hirefire_token
    if expected is None or not hmac.compare_digest(
        expected.get_secret_value().encode(), hirefire_token.encode()
    ):
        # As if there were no such path.
        raise unknown_path_problem()
    return [{"name": "worker", "value": (await _read_queue_stats(state)).suggested_workers}]


# Platforms that look in by HEAD get the status alone.
router.head("/healthz", include_in_schema=False)(healthz)
router.head("/readyz", include_in_schema=False)(readyz)
router.head("/scale", include_in_schema=False)(scale)
router.head("/hirefire", include_in_schema=False)(hirefire)


# The files of a process that runs do not change.
_newest_revision = cache(latest_revision)


async def _read_queue_stats(state: AppState) -> QueueStats:
    return await run_with_timeout(STATS_TIMEOUT_SECONDS, state.queue_stats.read())


async def _require_ready(state: AppState) -> None:
    async with state.pool.acquire() as connection:
        await require_current(connection)
