"""Authentication: an API key in each request, as `Authorization: Bearer sluice_...`."""

import math
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from producers.keys import Caller, Scope
from web.problems import SCOPE_MISSING, TOO_MANY_REQUESTS, UNAUTHENTICATED, Problem
from web.request_checks import require_well_formed
from web.request_notes import get_notes
from web.state import AppState, get_state


class ScopedKey(HTTPBearer):
    """A dependency that gives the caller, whose key must have the scope.

    This one dependency makes all checks of a route with a key. Calling a second one would take
    FastAPI as long as all of these checks.
    """

    def __init__(self, scope: Scope) -> None:
        super().__init__(scheme_name="API key", description="A key made by `sluice keys create`.")
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        """Return the caller; raise Problem unless the request is well-formed and allowed."""
        require_well_formed(request)
        state = get_state(request)
        caller = get_notes().caller = await _require_caller(request, state)
        seconds = state.rate_limiter.take_token(caller.key_id)
        if seconds:
            raise Problem(
                TOO_MANY_REQUESTS,
                f"This key may send {state.settings.requests_per_second:g} requests a second."
                " Nothing was done. Try again after the seconds in Retry-After.",
                headers={"Retry-After": str(math.ceil(seconds))},
            )
        if self.scope not in caller.scopes:
            raise Problem(
                SCOPE_MISSING,
                f"This needs a key with the scope {self.scope}. Nothing was done. The key has:"
                f" {', '.join(sorted(caller.scopes))}.",
                scope=self.scope,
            )
        if "requestBody" not in (request.scope["route"].openapi_extra or {}):
            await state.acquire_slot(request, caller.account_id)
        # With a body, `read_json_body` does it when the body has come: it may come slowly.
        return caller


async def _require_caller(request: Request, state: AppState) -> Caller:
    """Return the caller; raise Problem for an invalid key, or if its peer failed too often."""
    scheme, key = get_authorization_scheme_param(request.headers.get("Authorization"))
    if key and scheme.lower() == "bearer":
        caller = state.api_key_cache.find(key)
        if caller is not None or (caller := await _look_up(request, state, key)) is not None:
            return caller
    raise Problem(
        UNAUTHENTICATED,
        "Missing or invalid API key. Nothing was done. Send a key as `Authorization: Bearer"
        " sluice_…`; `sluice keys create` makes keys.",
        headers={"WWW-Authenticate": "Bearer"},
    )


async def _look_up(request: Request, state: AppState, key: str) -> Caller | None:
    peer = state.get_peer(request)
    is_limited = state.failed_auth_limiter.is_limited(peer)
    if is_limited and not await state.api_key_cache.is_listed(key):
        raise state.failed_auth_limiter.problem()
    caller = await state.api_key_cache.authenticate(key)
    if caller is None:
        state.failed_auth_limiter.record_failure(peer)
    return caller


JobsWriter = Annotated[Caller, Security(ScopedKey(Scope.JOBS_WRITE))]
JobsReader = Annotated[Caller, Security(ScopedKey(Scope.JOBS_READ))]
OptOutsWriter = Annotated[Caller, Security(ScopedKey(Scope.OPT_OUTS_WRITE))]
AddressesReader = Annotated[Caller, Security(ScopedKey(Scope.ADDRESSES_READ))]
