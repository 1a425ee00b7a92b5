"""Fixtures for tests over HTTP: the application on the test's own database, and API keys."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from producers.hooks import create_hook
from producers.keys import Scope, create_key
from runtime.settings import Settings
from tests.kit.factories import fill, make_account
from tests.kit.recipients import make_couples
from web.app import create_app

KeyOf: TypeAlias = Callable[..., Awaitable[dict[str, str]]]
"""`await key_of("default", "jobs:read")`: the headers of a request with a key of that account.

Without scopes the key has all of them. An account that does not exist is created.
"""


@pytest.fixture(scope="session")
def routed() -> FastAPI:
    """Return an application with its routes and their OpenAPI document, independent of settings."""
    app = create_app(Settings())
    app.openapi()
    return app


@pytest.fixture
async def app(settings: Settings, routed: FastAPI) -> AsyncIterator[FastAPI]:
    """Start the application; `app.state.sluice` is the state that its handlers use.

    Building the routes and the document for each test would take a sixth of a second.
    """
    app = create_app(settings)
    app.router.routes = routed.router.routes
    app.openapi = routed.openapi
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the application. It gets whole responses, so it cannot follow streams."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sluice.test") as client:
        yield client


@pytest.fixture
def key_of(pool: asyncpg.Pool) -> KeyOf:
    """Return a function that creates keys, and accounts for them."""

    async def key_of(account: str = "default", *scopes: str) -> dict[str, str]:
        if not await pool.fetchval("select exists (select from accounts where name = $1)", account):
            await make_account(pool, account)
        key = await create_key(
            pool,
            account=account,
            name=f"a service of {account}",
            scopes=[Scope(scope) for scope in scopes] or list(Scope),
        )
        return {"Authorization": f"Bearer {key.secret}"}

    return key_of


@pytest.fixture
async def shop(pool: asyncpg.Pool) -> int:
    """Create an account: two contacts share an address, and a third has one of its own."""
    account_id = await make_account(pool, "shop")
    await fill(
        pool,
        account_id,
        {
            1: {1: "ann@example.com", 2: "family@example.com"},
            2: {1: "bob@example.com", 2: "family@example.com"},
            3: {1: "eve@example.com"},
        },
        dict.fromkeys(
            ("ann@example.com", "bob@example.com", "family@example.com"), ("single_opt_in", False)
        )
        | {"eve@example.com": ("non_marketable", False)},
    )
    return account_id


@pytest.fixture
async def accounts(pool):
    """Create two accounts with couples as contacts."""
    return await make_couples(pool)


@pytest.fixture
async def hook(pool, settings, accounts):
    """Create a hook of the default account."""
    return await create_hook(pool, settings, account="default", source="keap")


@pytest.fixture
async def other_hook(pool, settings, accounts):
    """Create a hook of the other account."""
    return await create_hook(pool, settings, account="other", source="keap")
