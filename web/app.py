"""The composition root of a web process: uvicorn calls `make_app`."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import Depends, FastAPI

from db.pool import DOOR_IDLE_SECONDS, make_pool
from runtime import events, logs
from runtime.process import process_name
from runtime.settings import Settings
from runtime.version import commit, version
from web.error_handlers import add_handlers
from web.middleware.access_log import Lines
from web.middleware.body_limit import FORM_LIMITS, Limits
from web.middleware.security_headers import Headers
from web.middleware.server_error import Unexpected, is_told_already
from web.middleware.timeout import TimeLimit
from web.openapi import set_up_document
from web.request_checks import well_formed
from web.routes import (
    activity,
    addresses,
    contacts,
    hooks,
    job_events,
    jobs,
    operation,
    opt_outs,
    plans,
    results,
    unsubscribe,
)
from web.server_monitor import ServerWatch
from web.shutdown import noticing_the_end
from web.state import Here
from web.unattended_queue import watch_workers

log = logs.get()

# A request is held to one after the other: what is asked most comes first.
ROUTERS = (
    opt_outs.router,
    operation.router,
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


def make_app(settings: Settings | None = None) -> FastAPI:
    """The application; without settings it reads the environment and sets the process up."""
    if settings is not None:
        return _app(settings)
    settings = Settings()
    logs.configure(settings, web=process_name(settings))
    logs.leave_out(is_told_already)
    app = _app(settings)
    app.openapi()
    # All that is there by now stays. To look for cycles in it takes a tenth of a second, in which
    # nobody is served.
    gc.collect()
    gc.freeze()
    return app


def _app(settings: Settings) -> FastAPI:
    app = FastAPI(
        lifespan=_lifespan(settings),
        dependencies=[Depends(well_formed)],
        # The pages that show the document have scripts from elsewhere.
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        # To where it leads would be what the caller's Host header says.
        redirect_slashes=False,
        form_limits=FORM_LIMITS,
    )
    set_up_document(app)
    add_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    # The last is the outermost: every answer has its line and its headers, whoever gives it.
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(TimeLimit)
    app.add_middleware(Unexpected)
    app.add_middleware(Headers)
    app.add_middleware(Lines)
    return app


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert settings.database_url is not None
        # Each request is looked at by it: a fault in it is to show now.
        app.openapi()
        pool = await make_pool(
            settings.database_url,
            size=settings.web_pool_size,
            pgbouncer=settings.pgbouncer,
            application="sluice web",
            idle_seconds=DOOR_IDLE_SECONDS,
        )
        here = Here(settings, pool)
        app.state.here = here
        watch = app.state.watch = ServerWatch(settings)
        watch.start()
        log.info(events.WEB_STARTED, version=version(), commit=commit(settings))
        try:
            with noticing_the_end(here.closing):
                watching = asyncio.create_task(watch_workers(here))
                yield
                watching.cancel()
        finally:
            await watch.stop()
            pool.terminate()
            log.info(events.WEB_STOPPED)

    return lifespan
