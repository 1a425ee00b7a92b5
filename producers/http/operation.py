"""What platforms ask: whether the process lives, can serve, and how many workers it takes."""

from fastapi import APIRouter

from db.migrate import require_current
from producers.http.here import HereDep

router = APIRouter(tags=["operation"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(here: HereDep) -> dict[str, str]:
    """Whether requests can be served: Postgres answers, and is at this version's revision."""
    async with here.pool.acquire() as connection:
        await require_current(connection)
    return {"status": "ready"}
