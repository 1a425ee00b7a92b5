"""The application of a web process: uvicorn calls `create_app`.

`docs/extending.md` tells how to add a route.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.routing import APIRoute

from db import queries
from db.pool import WEB_IDLE_SECONDS, make_pool
from runtime import events, logs
from runtime.process import process_name
from runtime.settings import Settings
from runtime.version import commit, version
from web.error_handlers import add_error_handlers
from web.middleware.body_limit import BodyLimitMiddleware
from web.middleware.request import RequestMiddleware, is_already_logged
from web.middleware.timeout import TimeoutMiddleware
from web.openapi import install_openapi
from web.routes import (
    activity,
    addresses,
    contacts,
    health,
    hooks,
    job_events,
    jobs,
    opt_outs,
    plans,
    results,
    unsubscribe,
)
from web.shutdown import watch_for_shutdown
from web.state import AppState
from web.unattended_queue import watch_queue

log = logs.get_logger()

# A request is matched against them in this order: the most frequent ones come first.
ROUTERS = (
    opt_outs.router,
    health.router,
    jobs.router,
    plans.router,
    job_events.router,
    results.router,
    addresses.router,
    contacts.router,
    hooks.router,
    unsubscribe.router,
    activity.router,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Create the application; without settings, read the environment and set up logging."""
    if settings is not None:
        return _build_app(settings)
    settings = Settings()
    logs.configure(settings, web=process_name(settings))
    logs.drop_library_lines(is_already_logged)
    app = _build_app(settings)
    app.openapi()
    queries.preload()
    # What exists now stays. Searching it for cycles would block requests for a tenth of a second.
    gc.collect()
    gc.freeze()
    return app


def _build_app(settings: Settings) -> FastAPI:
    # As one list: an included router matches each request once more.
    routes = [route for router in ROUTERS for route in router.routes]
    for route in routes:
        assert isinstance(route, APIRoute)
        route.operation_id = route.name
    app = FastAPI(
        routes=routes,
        lifespan=partial(_lifespan, settings),
        # The pages that show the document load scripts from other sites.
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        # A redirect would go to what the caller's Host header says.
        redirect_slashes=False,
    )
    install_openapi(app)
    add_error_handlers(app)
    # The last is the outermost: every response has its log line and its headers.
    app.add_middleware(BodyLimitMiddleware, settings=settings)
    app.add_middleware(TimeoutMiddleware)
    app.add_middleware(RequestMiddleware)
    return app


@asynccontextmanager
async def _lifespan(settings: Settings, app: FastAPI) -> AsyncIterator[None]:
    assert settings.database_url is not None
    # Every request needs the document: an error in it must show now.
    app.openapi()
    pool = await make_pool(
        settings.database_url,
        size=settings.web_pool_size,
        pgbouncer=settings.pgbouncer,
        application="sluice web",
        idle_seconds=WEB_IDLE_SECONDS,
    )
    state = app.state.sluice = AppState(settings, pool)
    monitoring = asyncio.create_task(state.server_monitor.run())
    log.info(events.WEB_STARTED, version=version(), commit=commit(settings))
    try:
        with watch_for_shutdown(state.shutting_down):
            watching = asyncio.create_task(watch_queue(state))
            yield
            watching.cancel()
    finally:
        monitoring.cancel()
        await asyncio.wait([monitoring])
        pool.terminate()
        log.info(events.WEB_STOPPED)
