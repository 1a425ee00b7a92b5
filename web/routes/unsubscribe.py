"""One-click links in mail: the mail client's button (RFC 8058), or the unsubscribe page.

A mail client posts `List-Unsubscribe=One-Click` without asking the recipient again. Some post
something else, or nothing, so any POST opts out. GET and HEAD, which virus scanners send, change
nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from db.address_history import LinkedAddress, get_linked_address
from producers.immediate_opt_out import opt_out_immediately
from producers.one_click import PATH
from producers.recipient_events import opt_out_request
from runtime.signing import OneClickLink, parse_one_click_token
from schemas.actors import Actor, ActorKind, Via
from schemas.statuses import Status
from web import problems, unsubscribe_pages
from web.form_parser import parse_fields
from web.params import ANY_PATH
from web.problems import EXPECTED_ERRORS, Problem, problem_responses, to_problem
from web.request_body import form_openapi
from web.request_notes import get_notes, note_job
from web.state import AppState, State


class _PageRoute(APIRoute):
    """A route that answers problems as pages to browsers, and as JSON to other clients."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler, as FastAPI documents it."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except EXPECTED_ERRORS as error:
                return _page_or_raise(request, error)

        return answer


def _page_or_raise(request: Request, error: BaseException) -> HTMLResponse:
    if "text/html" not in request.headers.get("accept", ""):
        raise error
    problem = to_problem(error, request.scope)
    get_notes().problem = problem.kind.slug
    match problem.kind.status:
        case HTTPStatus.NOT_FOUND | HTTPStatus.TOO_MANY_REQUESTS as status:
            page = unsubscribe_pages.invalid_link_page(status)
        case HTTPStatus.SERVICE_UNAVAILABLE:
            page = unsubscribe_pages.retry_page()
        case status:
            page = unsubscribe_pages.unexpected_request_page(status)
    page.headers.update(problem.headers)
    return page


router = APIRouter(tags=["unsubscribe"], route_class=_PageRoute)

_LINK_PATH = f"{PATH}/{{token:{ANY_PATH}}}"
_VIA_BY_KIND = {Status.LIST_UNSUBSCRIBE: Via.ONE_CLICK, Status.MANUAL: Via.UNSUBSCRIBE_PAGE}
_SOURCE_BY_KIND = {Status.LIST_UNSUBSCRIBE: "one-click", Status.MANUAL: "unsubscribe-page"}

_BODY_TIMEOUT_SECONDS = 5.0
"""How long to wait for a body, which only tells whether it is the page's button."""

_MAX_BODY_BYTES = 8 * 1024
"""How many bytes of a body are read."""

_BODY_OPENAPI = form_openapi(
    {
        "List-Unsubscribe": {"description": "One-Click, from the mail client's button."},
        "confirm": {"description": "yes, from the page's button."},
    },
    required=False,
)


def _add_html(responses: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    for response in responses.values():
        response["content"]["text/html"] = {}
    return responses


@router.head(_LINK_PATH, response_class=HTMLResponse, include_in_schema=False)
@router.get(
    _LINK_PATH,
    summary="Show the unsubscribe page",
    response_class=HTMLResponse,
    responses={
        404: {"description": "The link does not exist.", "content": {"text/html": {}}},
        **_add_html(problem_responses(problems.TOO_MANY_REQUESTS)),
    },
)
async def show_unsubscribe_page(token: str, request: Request, state: State) -> HTMLResponse:
    """Show a page with a button to unsubscribe. Showing it changes nothing."""
    if await _find_address(request, state, token) is None:
        get_notes().problem = problems.NOT_FOUND.slug
        return unsubscribe_pages.invalid_link_page()
    return unsubscribe_pages.confirmation_page()


@router.post(
    _LINK_PATH,
    summary="Unsubscribe",
    response_class=HTMLResponse,
    response_description="A page that says that the recipient is opted out.",
    responses=_add_html(
        problem_responses(problems.NOT_FOUND, problems.TOO_MANY_REQUESTS, problems.UNAVAILABLE)
    ),
    openapi_extra=_BODY_OPENAPI,
)
async def unsubscribe(token: str, request: Request, state: State) -> HTMLResponse:
    """Opt out the address of the link, and its siblings.

    Any body of any type and size opts out, and so does none. Mail clients send
    `List-Unsubscribe=One-Click`; `confirm=yes` comes from the button of the page. Characters around
    the token in the path, such as a full stop, do not matter. There is no cookie, no login and no
    redirect.
    """
    found = await _find_address(request, state, token)
    if found is None:
        raise Problem(
            problems.NOT_FOUND, "This link does not exist. Nothing was changed. Check the URL."
        )
    link, linked = found
    kind, has_ended = await _read_kind(request)
    receipt = await opt_out_immediately(
        state.pool,
        state.settings,
        opt_out_request(
            account=linked.account,
            addresses=[linked.address],
            kind=kind,
            source=_SOURCE_BY_KIND[kind],
            key=f"one-click {link.address_id} {kind.value} {datetime.now(UTC).date()}",
            requested_by="the recipient",
            correlation_id=get_notes().correlation_id,
        ),
        account_id=link.account_id,
        actor=Actor(ActorKind.LINK, _VIA_BY_KIND[kind]),
    )
    note_job(receipt.job_id)
    page = unsubscribe_pages.done_page(is_applied=receipt.applied)
    if not has_ended:
        # The rest of the body would be read as the next request.
        page.headers["Connection"] = "close"
    return page


async def _find_address(
    request: Request, state: AppState, token: str
) -> tuple[OneClickLink, LinkedAddress] | None:
    """Return the link and its address; None if its signature is invalid, or no address has it.

    Raise Problem if it is invalid and its peer has failed too often. A valid link always works.
    """
    link = parse_one_click_token(state.settings, token)
    if link is None:
        peer = state.get_peer(request)
        if state.failed_auth_limiter.is_limited(peer):
            raise state.failed_auth_limiter.problem()
        state.failed_auth_limiter.record_failure(peer)
        return None
    async with state.pool.acquire() as connection:
        linked = await get_linked_address(
            connection, account_id=link.account_id, address_id=link.address_id
        )
    return linked and (link, linked)


async def _read_kind(request: Request) -> tuple[Status, bool]:
    """Return the status to set, and whether the body has ended.

    The status is `manual` if the form of the unsubscribe page was sent, else `list_unsubscribe`.
    """
    body, has_ended = await _read_beginning(request)
    fields = {
        (field.name.strip().casefold(), field.text.strip().casefold())
        for field in parse_fields(body, request.headers.get("content-type", ""))
    }
    is_button = any(name == "list-unsubscribe" for name, _ in fields)
    is_page = ("confirm", "yes") in fields and not is_button
    return (Status.MANUAL if is_page else Status.LIST_UNSUBSCRIBE), has_ended


async def _read_beginning(request: Request) -> tuple[bytes, bool]:
    """Return the beginning of the body, and whether it has ended.

    A body that is too large, too slow or cut off must not prevent the opt-out.
    """
    kept = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_SECONDS):
            async for part in request.stream():
                kept += part[: _MAX_BODY_BYTES - len(kept)]
    except (Problem, ClientDisconnect, TimeoutError):
        return bytes(kept), False
    return bytes(kept), True
