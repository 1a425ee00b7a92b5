"""Health, readiness and scaling, for platforms."""

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
"""How long Postgres may take to answer a readiness check."""

STATS_TIMEOUT_SECONDS = 5.0
"""How long measuring the queues may take."""

router = APIRouter(tags=["operation"])


class HealthResponse(BaseModel):
    """The state of the process."""

    status: str


class LivenessResponse(HealthResponse):
    """The state of the process, and its version."""

    version: str
    commit: str | None = Field(description="Null if neither the platform nor a checkout tells it.")
    revision: str = Field(description="The newest database revision of this version.")


class QueueLoad(BaseModel):
    """The work that waits."""

    pending_chunks: int
    planning_jobs: int
    oldest_seconds: float
    running_jobs: int
    work_seconds: float


class QueueScale(QueueLoad):
    """The work that waits in one queue."""

    queue: str


class ScaleResponse(QueueLoad):
    """The work that waits in all queues.

    `pending_chunks` counts chunks that a worker could take now. It includes one for each of
    `planning_jobs`, and one for each job that only needs to be completed. `oldest_seconds` is how
    long the oldest of these has waited. `work_seconds` is how long the work would take one chunk
    after the other. `due_webhooks` counts completion webhooks that wait for delivery.

    `suggested_workers` is the number of `worker` dynos to run, from 1 to MAX_WORKERS.
    """

    queues: list[QueueScale]
    due_webhooks: int
    suggested_workers: int


@router.get("/healthz", summary="Check that the process answers")
async def healthz(state: State) -> LivenessResponse:
    """Tell that the process answers, and which version it runs."""
    return LivenessResponse(
        status="ok", version=version(), commit=commit(state.settings), revision=_newest_revision()
    )


@router.get("/readyz", summary="Check that requests can be served")
async def readyz(state: State) -> HealthResponse:
    """Tell that Postgres answers, and has this version's revision or a newer compatible one."""
    await run_with_timeout(READY_TIMEOUT_SECONDS, _require_ready(state))
    return HealthResponse(status="ready")


@router.get("/scale", summary="Show what waits, and how many workers it needs")
async def scale(state: State) -> ScaleResponse:
    """Tell what waits for workers, and how many there should be.

    The figures are at most a second old, so polling often costs nothing.
    """
    stats = await _read_queue_stats(state)
    queues = [QueueScale.model_validate(load, from_attributes=True) for load in stats.loads]
    totals = {
        name: (max if name == "oldest_seconds" else sum)(getattr(load, name) for load in queues)
        for name in QueueLoad.model_fields
    }
    return ScaleResponse(
        **totals,
        queues=queues,
        due_webhooks=stats.due_webhooks,
        suggested_workers=stats.suggested_workers,
    )


@router.get("/hirefire", include_in_schema=False)
async def hirefire(
    state: State, hirefire_token: Annotated[str, Header()] = ""
) -> list[dict[str, Any]]:
    """Tell HireFire, which sends its token, the suggested number of workers."""
    expected = state.settings.hirefire_token
    if expected is None or not hmac.compare_digest(
        expected.get_secret_value().encode(), hirefire_token.encode()
    ):
        # As if the path did not exist.
        raise unknown_path_problem()
    return [{"name": "worker", "value": (await _read_queue_stats(state)).suggested_workers}]


# Platforms that send HEAD get the status alone.
for handler in (healthz, readyz, scale, hirefire):
    router.head(f"/{handler.__name__}", include_in_schema=False)(handler)


# The files of a running process do not change.
_newest_revision = cache(latest_revision)


async def _read_queue_stats(state: AppState) -> QueueStats:
    return await run_with_timeout(STATS_TIMEOUT_SECONDS, state.queue_stats.read())


async def _require_ready(state: AppState) -> None:
    async with state.pool.acquire() as connection:
        await require_current(connection)
