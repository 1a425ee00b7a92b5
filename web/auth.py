"""Authentication: an API key in each request, as `Authorization: Bearer sluice_...`."""

import math
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from producers.keys import Caller, Scope
from web.problems import SCOPE_MISSING, TOO_MANY_REQUESTS, UNAUTHENTICATED, Problem
from web.state import AppState, get_state

_bearer = HTTPBearer(
    auto_error=False, scheme_name="API key", description="A key made by `sluice keys create`."
)
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def require_scope(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency that gives the caller, whose key must have the scope."""

    async def require_caller(request: Request, credentials: _Credentials) -> Caller:
        state = await get_state(request)
        caller = None
        if credentials is not None:
            caller = await _authenticate(request, state, credentials.credentials)
        if caller is None:
            raise Problem(
                UNAUTHENTICATED,
                "Missing or invalid API key. Nothing was done. Send a key as `Authorization:"
                " Bearer sluice_…`; `sluice keys create` makes keys.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        request.state.caller = caller
        seconds = state.rate_limiter.take_token(caller.key_id)
        if seconds:
            raise Problem(
                TOO_MANY_REQUESTS,
                f"This key may send {state.settings.requests_per_second:g} requests a second."
                " Nothing was done. Try again after the seconds in Retry-After.",
                headers={"Retry-After": str(math.ceil(seconds))},
            )
        if scope not in caller.scopes:
            raise Problem(
                SCOPE_MISSING,
                f"This needs a key with the scope {scope}. Nothing was done. The key has:"
                f" {', '.join(sorted(caller.scopes))}.",
                scope=scope,
            )
        if "requestBody" not in (request.scope["route"].openapi_extra or {}):
            await state.acquire_slot(request, caller.account_id)
        # With a body, `read_json_body` does it when the body has come: it may come slowly.
        return caller

    return require_caller


async def _authenticate(request: Request, state: AppState, token: str) -> Caller | None:
    """Return the caller; raise Problem if the key is invalid and its peer failed too often."""
    peer = state.get_peer(request)
    is_limited = state.failed_auth_limiter.is_limited(peer)
    if is_limited and not await state.api_key_cache.is_listed(token):
        raise state.failed_auth_limiter.problem()
    caller = await state.api_key_cache.authenticate(token)
    if caller is None:
        state.failed_auth_limiter.record_failure(peer)
    return caller


JobsWriter = Annotated[Caller, Depends(require_scope(Scope.JOBS_WRITE))]
JobsReader = Annotated[Caller, Depends(require_scope(Scope.JOBS_READ))]
OptOutsWriter = Annotated[Caller, Depends(require_scope(Scope.OPT_OUTS_WRITE))]
AddressesReader = Annotated[Caller, Depends(require_scope(Scope.ADDRESSES_READ))]
