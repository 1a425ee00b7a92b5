"""The status of an address, why it has it, and its history."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import ConfigDict, Field

from producers.address_history import AddressView, parse_match_key, read_address
from producers.one_click import one_click_url
from schemas.examples import get_examples
from web.auth import AddressesReader
from web.params import QUERY_NUMBER
from web.problems import NOT_FOUND, problem_responses
from web.state import State

router = APIRouter(tags=["addresses"])


class AddressResponse(AddressView):
    """An address, its status and why it has it, and its one-click link."""

    model_config = ConfigDict(json_schema_extra=get_examples("AddressResponse"))

    one_click_url: Annotated[
        str,
        Field(
            description="The one-click link of this address, for List-Unsubscribe (RFC 8058) and"
            " the footer of a mail. Anyone who has it can opt the address out."
        ),
    ]


@router.get(
    # An address may contain a slash.
    "/v1/addresses/{address:path}",
    summary="Show an address and its history",
    response_description="The address, its status, contacts and history.",
    responses=problem_responses(NOT_FOUND),
)
async def get_address(
    address: Annotated[
        str,
        Path(
            description="The email address, percent-encoded. Case does not matter.",
            examples=["ann@example.com"],
        ),
    ],
    request: Request,
    state: State,
    caller: AddressesReader,
    limit: Annotated[
        int,
        Query(ge=1, le=2_000, description="How many rows of its history to show."),
        QUERY_NUMBER,
    ] = 1_000,
) -> AddressResponse:
    """Tell what may be sent to an address, since when and why, and whether it can be opted in."""
    match_key = parse_match_key(address)
    async with state.pool.acquire() as connection:
        address_id, view = await read_address(
            connection,
            account_id=caller.account_id,
            match_key=match_key,
            limit=limit,
            role_address_limit=state.settings.role_address_limit,
        )
    link = one_click_url(state.settings, str(request.base_url), caller.account_id, address_id)
    return AddressResponse(**dict(view), one_click_url=link)
