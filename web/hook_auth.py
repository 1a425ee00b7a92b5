"""Which hook a request is for, and whether its sender knows the hook's token or secret.

A hook that does not exist, one that was revoked and a wrong token or signature get the same
response after the same steps. No response tells anything about the account. A signature is an HMAC
over the timestamp and the exact bytes of the body.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fastapi import Request

from db import hooks
from db.hooks import Hook
from producers.hooks import DUMMY_HOOK, hook_secrets, is_token_of_hook
from runtime import events, logs
from runtime.signing import equal_in_constant_time, parse_hook_token, signature
from schemas.errors import InvalidRequest
from schemas.requests import MAX_ID
from web.problems import INVALID_SIGNATURE, NOT_FOUND, STALE_TIMESTAMP, Problem
from web.request_notes import get_notes
from web.state import AppState

log = logs.get_logger()

MAX_CLOCK_SKEW_SECONDS = 300
"""How far a request's timestamp may differ from this process's clock, either way."""

_is_unix_time = re.compile(r"[0-9]{1,12}", re.ASCII).fullmatch


async def authenticate_form(request: Request, state: AppState, token: str) -> Hook:
    """Return the hook whose URL has this token; raise Problem if there is none."""
    hook, is_valid = await _find_hook(
        request,
        state,
        parse_hook_token(token),
        lambda hook: is_token_of_hook(state.settings, hook, token),
    )
    if not is_valid:
        log_rejected(hook, "invalid_token")
        raise _not_found_problem()
    return _require_active(hook)


async def authenticate_signed(request: Request, state: AppState, hook_id: int, body: bytes) -> Hook:
    """Return the hook whose secret the request is signed with; raise Problem if there is none."""
    hook, is_valid = await _find_hook(
        request,
        state,
        hook_id,
        lambda hook: _has_valid_signature(request, body, hook_secrets(state.settings, hook)),
    )
    if not is_valid:
        log_rejected(hook, "invalid_signature")
        raise Problem(
            INVALID_SIGNATURE,
            "The request is not signed with the hook's secret. Nothing was stored. Send"
            " Sluice-Timestamp with Unix seconds, and Sluice-Signature with v1= and the hexadecimal"
            " HMAC-SHA256, by the secret, of the timestamp, a full stop and the body.",
        )
    if abs(time.time() - int(request.headers["sluice-timestamp"])) > MAX_CLOCK_SKEW_SECONDS:
        log_rejected(hook, "stale_timestamp")
        raise Problem(
            STALE_TIMESTAMP,
            f"The request was signed more than {MAX_CLOCK_SKEW_SECONDS} seconds before or after"
            " now. Nothing was stored. Set the sender's clock, and sign the request again.",
        )
    return _require_active(hook)


def _has_valid_signature(request: Request, body: bytes, secrets: Sequence[str]) -> bool:
    """Return whether the request is signed with one of the secrets, whatever its timestamp.

    Every secret is tried, so that the duration does not reveal which one it was.
    """
    timestamp = request.headers.get("sluice-timestamp", "")
    given = request.headers.get("sluice-signature", "")
    matches = [
        equal_in_constant_time(given, signature(secret, timestamp, body)) for secret in secrets
    ]
    return _is_unix_time(timestamp) is not None and any(matches)


async def _find_hook(
    request: Request, state: AppState, hook_id: int | None, is_authentic: Callable[[Hook], bool]
) -> tuple[Hook, bool]:
    """Return the hook, or DUMMY_HOOK if it does not exist, and whether it is authentic.

    If its peer has failed too often, a cached list of active hooks decides, so that guesses do not
    each query Postgres. Raise Problem if the hook is not authentic then.
    """
    peer = state.get_peer(request)
    is_limited = state.failed_auth_limiter.is_limited(peer)
    hook: Hook | None = None
    if hook_id is not None and 0 < hook_id <= MAX_ID:
        if is_limited:
            hook = await state.active_hooks.find(hook_id, is_authentic)
        else:
            async with state.pool.acquire() as connection:
                hook = await hooks.get_hook(connection, hook_id)
    hook = hook or DUMMY_HOOK
    if is_authentic(hook):
        return hook, True
    if is_limited:
        raise state.failed_auth_limiter.problem()
    state.failed_auth_limiter.record_failure(peer)
    return hook, False


def _require_active(hook: Hook) -> Hook:
    get_notes().hook = hook
    if hook.revoked:
        log_rejected(hook, "revoked")
        raise _not_found_problem()
    return hook


def _not_found_problem() -> Problem:
    return Problem(NOT_FOUND, "This hook does not exist. Nothing was stored. Check the URL.")


@contextmanager
def log_problems(hook: Hook) -> Iterator[None]:
    """Log what is raised inside: its sender may not look at responses."""
    try:
        yield
    except (Problem, InvalidRequest):
        log_rejected(hook, "malformed")
        raise


def log_rejected(hook: Hook, reason: str) -> None:
    """Log that a request to an existing hook was rejected."""
    if hook is not DUMMY_HOOK:
        log.warning(events.HOOK_REJECTED, hook=hook.id, account=hook.account_id, reason=reason)
