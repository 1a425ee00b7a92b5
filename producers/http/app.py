"""The composition root of a web process: uvicorn calls `make_app`."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from db.failures import NOT_THE_WORKS_FAULT
from db.pool import DOOR_IDLE_SECONDS, make_pool
from producers.http import hooks, jobs, operation, opt_outs, unsubscribe
from producers.http.closing import noticing_the_end
from producers.http.failing import (
    on_caller_gone,
    on_database_away,
    on_http_error,
    on_wrong_parameters,
)
from producers.http.here import Here
from producers.http.lines import Lines
from producers.http.problems import on_sluice_error
from runtime import logs
from runtime.settings import Settings
from schemas.errors import SluiceError

ROUTERS = (
    operation.router,
    jobs.router,
    opt_outs.router,
    hooks.router,
    unsubscribe.router,
)


def make_app(settings: Settings | None = None) -> FastAPI:
    """The application; without settings it reads the environment and sets up the logs."""
    if settings is None:
        settings = Settings()
        logs.configure(settings)
    app = FastAPI(title="Sluice", lifespan=_lifespan(settings))
    app.add_exception_handler(SluiceError, on_sluice_error)
    app.add_exception_handler(RequestValidationError, on_wrong_parameters)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(ClientDisconnect, on_caller_gone)
    for family in NOT_THE_WORKS_FAULT:
        assert issubclass(family, Exception)
        app.add_exception_handler(family, on_database_away)
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Lines)
    return app


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert settings.database_url is not None
        pool = await make_pool(
            settings.database_url,
            size=settings.web_pool_size,
            pgbouncer=settings.pgbouncer,
            application="sluice web",
            idle_seconds=DOOR_IDLE_SECONDS,
        )
        here = Here(settings, pool)
        app.state.here = here
        try:
            with noticing_the_end(here.closing):
                yield
        finally:
            pool.terminate()

    return lifespan
