"""Unsubscribing by the link in a mail: with the mail client's button (RFC 8058), or on a page.

A mail client posts `List-Unsubscribe=One-Click` without asking the recipient anything more. What
only looks at links, such as a virus scanner, sends GET or HEAD, and changes nothing by it.
"""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from db.failures import NOT_THE_WORKS_FAULT, UNREACHABLE
from db.links import LinkedAddress, linked_address
from producers.http import pages
from producers.http.bodies import media_type
from producers.http.failing import database_away
from producers.http.forms import MEDIA_TYPES, form_body, read_form
from producers.http.here import CorrelationId, Here, HereDep
from producers.http.problems import (
    MALFORMED,
    NOT_FOUND,
    TOO_LARGE,
    UNAVAILABLE,
    Problem,
    answers,
    problem_of,
)
from producers.one_click import PATH
from producers.opt_outs import opt_out_now
from producers.recipient_acts import request_of
from runtime.signing import OneClick, one_click_of
from schemas.errors import SluiceError
from schemas.statuses import Status


class _ToldOnPages(APIRoute):
    """A route whose problems a browser shows as pages; mail clients, which show nothing, and other
    programs get them as everywhere.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's way to wrap a handler."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except SluiceError as error:
                return _page_or_raise(request, error, problem_of(error))
            except (*NOT_THE_WORKS_FAULT, *UNREACHABLE) as error:
                return _page_or_raise(request, error, database_away(error))

        return answer


def _page_or_raise(request: Request, error: BaseException, problem: Problem) -> HTMLResponse:
    if "text/html" not in request.headers.get("accept", ""):
        raise error
    match problem.kind.status:
        case HTTPStatus.NOT_FOUND:
            page = pages.no_such_link()
        case HTTPStatus.SERVICE_UNAVAILABLE:
            page = pages.try_again()
        case status:
            page = pages.not_understood(status)
    page.headers.update(problem.headers)
    return page


router = APIRouter(tags=["unsubscribing"], route_class=_ToldOnPages)

_KINDS = {
    ("List-Unsubscribe", "One-Click"): Status.LIST_UNSUBSCRIBE,
    ("confirm", "yes"): Status.MANUAL,
}
"""What a body may say, and whose act it then is: the mail client's button, or the page's."""

_SOURCES = {Status.LIST_UNSUBSCRIBE: "one-click", Status.MANUAL: "unsubscribe-page"}


def _also_as_pages(told: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    for response in told.values():
        response["content"]["text/html"] = {}
    return told


_NO_SUCH_LINK: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such link.", "content": {"text/html": {}}}
}


@router.head(f"{PATH}/{{token}}", response_class=HTMLResponse, include_in_schema=False)
@router.get(
    f"{PATH}/{{token}}",
    operation_id="show_unsubscribe_page",
    summary="See the page of an unsubscribe link",
    response_class=HTMLResponse,
    responses=_NO_SUCH_LINK,
)
async def show(token: str, here: HereDep) -> HTMLResponse:
    """A page with a button, by which the recipient unsubscribes. To see it changes nothing."""
    link = one_click_of(here.settings, token)
    if link is None or await _linked(here, link) is None:
        return pages.no_such_link()
    return pages.question()


@router.post(
    f"{PATH}/{{token}}",
    operation_id="unsubscribe",
    summary="Unsubscribe",
    response_class=HTMLResponse,
    response_description="The recipient is opted out, and is told so on a page.",
    responses=_also_as_pages(answers(MALFORMED, NOT_FOUND, TOO_LARGE, UNAVAILABLE)),
    openapi_extra={"requestBody": form_body({name: {"const": value} for name, value in _KINDS})},
)
async def unsubscribe(
    token: str, request: Request, here: HereDep, correlation_id: CorrelationId
) -> HTMLResponse:
    """Opt out the address that the link was made for, and those it spreads to.

    Takes `List-Unsubscribe=One-Click`, as mail clients send it, or `confirm=yes` from the page.
    Neither cookies nor a login are looked at, and nobody is sent elsewhere.
    """
    link = one_click_of(here.settings, token)
    linked = None if link is None else await _linked(here, link)
    if link is None or linked is None:
        raise Problem(NOT_FOUND, "There is no such link; nothing was changed.")
    kind = await _kind(request)
    done = await opt_out_now(
        here.pool,
        here.settings,
        request_of(
            account=linked.account,
            addresses=[linked.address],
            kind=kind,
            source=_SOURCES[kind],
            key=f"one-click {link.address_id} {kind.value} {datetime.now(UTC).date()}",
            requested_by="the recipient",
            correlation_id=correlation_id,
        ),
    )
    return pages.unsubscribed() if done.applied else pages.stored()


async def _linked(here: Here, link: OneClick) -> LinkedAddress | None:
    async with here.pool.acquire() as connection:
        return await linked_address(
            connection, account_id=link.account_id, address_id=link.address_id
        )


async def _kind(request: Request) -> Status:
    fields = await read_form(request) if media_type(request) in MEDIA_TYPES else []
    kind = _KINDS.get(fields[0]) if len(fields) == 1 else None
    if kind is None:
        raise Problem(
            MALFORMED,
            "Nothing was changed: the body has to be a form with List-Unsubscribe=One-Click and"
            " nothing else, or confirm=yes from the page.",
        )
    return kind
