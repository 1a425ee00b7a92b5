"""What platforms ask: whether the process lives, can serve, and how many workers it takes."""

import hmac
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from db.migrate import head, require_current
from runtime.version import commit, version
from web.error_handlers import nothing_here
from web.middleware.timeout import within
from web.queue_stats import Figures
from web.state import Here, HereDep

READY_SECONDS = 2.0
"""How long Postgres may take to prove that it answers."""

MEASURE_SECONDS = 5.0
"""How long it may take to measure the queues."""

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """That the process answers, or can serve."""

    status: str


class Alive(Health):
    """That the process answers, and which version it is."""

    version: str
    commit: str | None = Field(
        description="Null where neither the platform nor a checkout tells it."
    )
    revision: str = Field(description="The newest revision of the database that it knows.")


class QueueNow(BaseModel):
    """What waits in one queue."""

    queue: str
    pending_chunks: int
    planning_jobs: int
    oldest_seconds: float
    running_jobs: int
    work_seconds: float


class Scale(BaseModel):
    """What waits in all queues.

    `pending_chunks` is what waits for a worker: chunks that could be worked now. A job that waits
    for its plan counts as one, and is one of `planning_jobs`; so does a job that waits only for its
    end. `oldest_seconds` is for how long the oldest of these has waited. `work_seconds` is how long
    the work would take one chunk after the other, and `due_notices` how many completion notices
    wait.

    `suggested_workers` is how many worker dynos there should be, from 1 to MAX_WORKERS.
    """

    queues: list[QueueNow]
    pending_chunks: int
    planning_jobs: int
    oldest_seconds: float
    running_jobs: int
    work_seconds: float
    due_notices: int
    suggested_workers: int


@router.get("/healthz", operation_id="healthz", summary="Tell whether the process lives")
async def healthz(here: HereDep) -> Alive:
    """Whether the process answers, and which version it runs."""
    return Alive(
        status="ok", version=version(), commit=commit(here.settings), revision=_newest_revision()
    )


@router.get("/readyz", operation_id="readyz", summary="Tell whether requests can be served")
async def readyz(here: HereDep) -> Health:
    """Whether requests can be served: Postgres answers, and is at this version's revision or at a
    newer one that suits this version.
    """
    await within(READY_SECONDS, _require_ready(here))
    return Health(status="ready")


@router.get("/scale", operation_id="scale", summary="Tell how many workers the work takes")
async def scale(here: HereDep) -> Scale:
    """What waits for workers, and how many there should be. The figures are a second old at most,
    so that asking often costs nothing.
    """
    figures = await _figures(here)
    queues = [QueueNow.model_validate(load, from_attributes=True) for load in figures.loads]
    return Scale(
        queues=queues,
        pending_chunks=sum(queue.pending_chunks for queue in queues),
        planning_jobs=sum(queue.planning_jobs for queue in queues),
        oldest_seconds=max(queue.oldest_seconds for queue in queues),
        running_jobs=sum(queue.running_jobs for queue in queues),
        work_seconds=sum(queue.work_seconds for queue in queues),
        due_notices=figures.due_notices,
        suggested_workers=figures.suggested_workers,
    )


@router.get("/hirefire", include_in_schema=False)
async def hirefire(
    here: HereDep, hirefire_token: Annotated[str, Header()] = ""
) -> list[dict[str, Any]]:
    """The same for HireFire, which brings its token."""
    expected = here.settings.hirefire_token
    if expected is None or not hmac.compare_digest(
        expected.get_secret_value().encode(), hirefire_token.encode()
    ):
        # As if there were no such path.
        raise nothing_here()
    return [{"name": "worker", "value": (await _figures(here)).suggested_workers}]


# Platforms that look in by HEAD get the status alone.
router.head("/healthz", include_in_schema=False)(healthz)
router.head("/readyz", include_in_schema=False)(readyz)
router.head("/scale", include_in_schema=False)(scale)
router.head("/hirefire", include_in_schema=False)(hirefire)


# The files of a process that runs do not change.
_newest_revision = cache(head)


async def _figures(here: Here) -> Figures:
    return await within(MEASURE_SECONDS, here.queue_loads.now())


async def _require_ready(here: Here) -> None:
    async with here.pool.acquire() as connection:
        await require_current(connection)
