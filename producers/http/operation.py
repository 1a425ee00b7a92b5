"""What platforms ask: whether the process lives, can serve, and how many workers it takes."""

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel

from db.migrate import require_current
from db.progress import QueueLoad
from producers.http.failing import nothing_here
from producers.http.here import Here, HereDep
from producers.http.time_limit import within
from producers.scaling import suggested_workers

READY_SECONDS = 2.0
"""How long Postgres may take to prove that it answers."""

MEASURE_SECONDS = 5.0
"""How long it may take to measure the queues."""

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """That the process answers, or can serve."""

    status: str


class QueueNow(BaseModel):
    """What waits in one queue."""

    queue: str
    pending_chunks: int
    oldest_seconds: float
    running_jobs: int


class Scale(BaseModel):
    """What waits in all queues. `oldest_seconds` is the age of the oldest chunk that could be
    worked.

    `suggested_workers` is how many worker dynos there should be: 1 where nothing waits.
    """

    queues: list[QueueNow]
    pending_chunks: int
    oldest_seconds: float
    running_jobs: int
    suggested_workers: int


@router.get("/healthz", operation_id="healthz", summary="Tell whether the process lives")
async def healthz() -> Health:
    """Whether the process answers."""
    return Health(status="ok")


@router.get("/readyz", operation_id="readyz", summary="Tell whether requests can be served")
async def readyz(here: HereDep) -> Health:
    """Whether requests can be served: Postgres answers, and is at this version's revision."""
    await within(READY_SECONDS, _require_ready(here))
    return Health(status="ready")


@router.get("/scale", operation_id="scale", summary="Tell how many workers the work takes")
async def scale(here: HereDep) -> Scale:
    """What waits for workers, and how many there should be. The figures are a second old at most,
    so that asking often costs nothing.
    """
    loads = await _loads(here)
    return Scale(
        queues=[QueueNow(**load._asdict()) for load in loads],
        pending_chunks=sum(load.pending_chunks for load in loads),
        oldest_seconds=max(load.oldest_seconds for load in loads),
        running_jobs=sum(load.running_jobs for load in loads),
        suggested_workers=suggested_workers(loads),
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
    return [{"name": "worker", "value": suggested_workers(await _loads(here))}]


# Platforms that look in by HEAD get the status alone.
router.head("/healthz", include_in_schema=False)(healthz)
router.head("/readyz", include_in_schema=False)(readyz)
router.head("/scale", include_in_schema=False)(scale)
router.head("/hirefire", include_in_schema=False)(hirefire)


async def _loads(here: Here) -> list[QueueLoad]:
    return await within(MEASURE_SECONDS, here.queue_loads.now())


async def _require_ready(here: Here) -> None:
    async with here.pool.acquire() as connection:
        await require_current(connection)
