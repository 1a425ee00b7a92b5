"""Who may ask for what: an API key with each request, as `Authorization: Bearer sluice_...`."""

import math
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from producers.keys import Caller, Scope
from web.problems import SCOPE_MISSING, TOO_MANY_REQUESTS, UNAUTHENTICATED, Problem
from web.state import Here, here_of

_bearer = HTTPBearer(
    auto_error=False, scheme_name="API key", description="A key that `sluice keys create` made."
)
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def caller_with(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller, whose key has to have the scope."""

    async def caller(request: Request, credentials: _Credentials) -> Caller:
        here = here_of(request)
        found = None
        if credentials is not None:
            found = await _caller_of(request, here, credentials.credentials)
        if found is None:
            raise Problem(
                UNAUTHENTICATED,
                "Missing or invalid API key. Nothing was done. Send a key as `Authorization:"
                " Bearer sluice_…`; `sluice keys create` makes keys.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        request.state.caller = found
        seconds = here.rate_limit.wait_seconds(found.key_id)
        if seconds:
            raise Problem(
                TOO_MANY_REQUESTS,
                f"This key may make {here.settings.requests_per_second:g} requests a second."
                " Nothing was done. Try again after the seconds in Retry-After.",
                headers={"Retry-After": str(math.ceil(seconds))},
            )
        if scope not in found.scopes:
            raise Problem(
                SCOPE_MISSING,
                f"This needs a key with the scope {scope}. Nothing was done. The key has:"
                f" {', '.join(sorted(found.scopes))}.",
                scope=scope,
            )
        if "requestBody" not in (request.scope["route"].openapi_extra or {}):
            await here.take_turn(request, found.account_id)
        # Of those with a body `json_body` does it, when that has come: it may come slowly.
        return found

    return caller


async def _caller_of(request: Request, here: Here, token: str) -> Caller | None:
    """Whose key this is; raises Problem where it is none, and its peer sent too many of these."""
    peer = here.peer_of(request)
    too_many = here.wrong_tries.are_too_many(peer)
    if too_many and not await here.known_keys.is_listed(token):
        raise here.wrong_tries.too_many()
    caller = await here.known_keys.caller_of(token)
    if caller is None:
        here.wrong_tries.count(peer)
    return caller


JobsWriter = Annotated[Caller, Depends(caller_with(Scope.JOBS_WRITE))]
JobsReader = Annotated[Caller, Depends(caller_with(Scope.JOBS_READ))]
OptOutsWriter = Annotated[Caller, Depends(caller_with(Scope.OPT_OUTS_WRITE))]
AddressesReader = Annotated[Caller, Depends(caller_with(Scope.ADDRESSES_READ))]
