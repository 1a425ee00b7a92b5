"""`python -m bench.bare_route`: a route that does one UPDATE and one INSERT, and nothing else.

It shows the minimum cost of an opt-out over HTTP with the same server, framework, driver and pool
size. It checks no key and no rule, and propagates nothing.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request

from bench.effects import sql
from db.pool import open_pool
from runtime.settings import Settings

_JOB_ID = 3_000_001


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = Settings()
    async with await open_pool(settings.database_url or "", size=settings.web_pool_size) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan, openapi_url=None)


@app.get("/healthz")
async def healthz() -> None:
    """Answer."""


@app.post("/v1/opt-outs")
async def opt_out(request: Request, body: dict[str, str]) -> dict[str, int]:
    """Change the status of the address, and insert a result."""
    row = {"account_id": int(os.environ["ACCOUNT_ID"]), "job_id": _JOB_ID}
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        address_id = await sql.opt_out_bare(connection, **row, match_key=body["address"])
        await sql.insert_bare_result(connection, **row, address_id=address_id)
    return {"propagated": 1}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), loop="uvloop", http="httptools", log_config=None)
