"""Contacts by the statuses of their addresses: the ones that a bulk action would select."""

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Self

import asyncpg
from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from actions.registry import get_action
from db import contacts, jobs
from db.contacts import ContactFilter
from schemas.errors import NotFound
from schemas.examples import get_examples
from schemas.requests import DEFAULT_FIELDS, FIELD_NAMES, FIELD_NUMBERS, MAX_ID, FieldName
from schemas.statuses import Status
from web.auth import AddressesReader
from web.pagination import Cursor, Limit, decode_id_cursor, encode_cursor
from web.params import QUERY_NUMBER
from web.problems import NOT_FOUND, problem_responses
from web.state import State

router = APIRouter(tags=["addresses"])


def _require_iso_date(text: str) -> str:
    """Reject what pydantic would read otherwise: a number, as seconds."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("give a day as YYYY-MM-DD")
    return text


IsoDate = Annotated[date, BeforeValidator(_require_iso_date)]


class ContactAddress(BaseModel):
    """An address of a contact."""

    field: str
    address: str
    status: Status


class Contact(BaseModel):
    """A contact with all its addresses."""

    id: int
    given_name: str | None
    family_name: str | None
    company: str | None
    emails: list[ContactAddress]

    @classmethod
    def from_row(cls, contact: contacts.Contact) -> Self:
        """Build it from a row."""
        emails: list[dict[str, Any]] = [
            {**held, "field": FIELD_NAMES[held["field"]]} for held in contact.emails
        ]
        return cls(**contact._asdict() | {"emails": emails})


class ContactPage(BaseModel):
    """A page of contacts, in order of their ids."""

    model_config = ConfigDict(json_schema_extra=get_examples("ContactPage"))

    contacts: list[Contact]
    fields: Annotated[
        list[FieldName],
        Field(
            description="The fields that `status`, `engaged_before` and `counts` were about. A job"
            " for these contacts has the same `fields`."
        ),
    ]
    counts: Annotated[
        dict[Status, int] | None,
        Field(
            description="How many addresses of each status contacts hold in the fields. Only `tag`"
            " and `import` narrow these counts, not `status` and `engaged_before`. Null without"
            " `counts=true`, and after the first page."
        ),
    ]
    next: Annotated[
        str | None,
        Field(
            description="The cursor of the next page, null after the last. A page scans at most"
            f" {contacts.MAX_SCANNED_CONTACTS:,} contacts, so it may be empty without being the"
            " last."
        ),
    ]


class _ContactQuery(BaseModel):
    """The query parameters of `find_contacts`."""

    status: Annotated[
        list[Status] | None,
        Field(
            description="Contacts with an address of this status in one of the fields. Repeat"
            " it for several."
        ),
    ] = None
    field: Annotated[
        list[FieldName] | None,
        Field(
            description="The fields that `status`, `engaged_before` and `counts` are about, like a"
            f" job's `fields`; by default {', '.join(DEFAULT_FIELDS)}. Repeat it for several."
        ),
    ] = None
    tag: Annotated[
        str | None, Field(min_length=1, max_length=200, description="Contacts with this tag.")
    ] = None
    import_job: Annotated[
        int | None,
        Field(alias="import", description="Contacts that this import created or recognized."),
        QUERY_NUMBER,
    ] = None
    engaged_before: Annotated[
        IsoDate | None,
        Field(
            description="Contacts with an address in one of the fields that became"
            " `unengaged_marketable` or `unengaged_non_marketable` before this day (UTC), and still"
            " is. Sluice stores no engagement, so it finds no other address: no contact counts as"
            " disengaged because no mail was sent."
        ),
    ] = None
    counts: Annotated[
        bool,
        Field(
            description="Also count addresses by status, on the first page. Without `tag` and"
            " `import` this reads all addresses of the account."
        ),
    ] = False
    cursor: Cursor = None
    limit: Limit = 100


@router.get(
    "/v1/contacts",
    summary="Find contacts by the statuses of their addresses",
    response_description="A page of contacts.",
    responses=problem_responses(NOT_FOUND),
)
async def find_contacts(
    state: State, caller: AddressesReader, query: Annotated[_ContactQuery, Query()]
) -> ContactPage:
    """Find the contacts that meet all conditions, with all their addresses.

    One and the same address, in one of the fields, has to meet both `status` and `engaged_before`.
    A job whose selection and `fields` say the same as `status`, `tag`, `import` and `field` selects
    the same contacts.
    """
    after = decode_id_cursor(query.cursor, first=-MAX_ID - 1)
    fields = sorted(set(query.field or DEFAULT_FIELDS))
    engaged_before = query.engaged_before
    async with state.pool.acquire() as connection:
        sought = ContactFilter(
            caller.account_id,
            [FIELD_NUMBERS[name] for name in fields],
            await _find_tag_id(connection, caller.account_id, query.tag),
            await _require_import(connection, caller.account_id, query.import_job),
            query.status,
            datetime.combine(engaged_before, time(), UTC) if engaged_before else None,
        )
        found, following = await contacts.find_contacts(
            connection, sought, after=after, limit=query.limit
        )
    counts = None
    if query.counts and query.cursor is None:
        async with (
            state.long_request_slots.hold(caller.account_id),
            state.pool.acquire() as connection,
        ):
            counts = await contacts.count_addresses(connection, sought)
    return ContactPage(
        contacts=[Contact.from_row(contact) for contact in found],
        fields=fields,
        counts=counts,
        next=None if following is None else encode_cursor(following),
    )


async def _find_tag_id(
    connection: asyncpg.Connection, account_id: int, tag: str | None
) -> int | None:
    if tag is None:
        return None
    found = await contacts.get_tag_id(connection, account_id, tag)
    if found is None:
        raise NotFound("The account has no tag of this name. Nothing was read.")
    return found


async def _require_import(
    connection: asyncpg.Connection, account_id: int, job_id: int | None
) -> int | None:
    if job_id is None:
        return None
    job = await jobs.get_job(connection, job_id, account_id=account_id)
    if job is None or not get_action(job.action).creates_contacts:
        raise NotFound(f"The account has no import {job_id}. GET /v1/jobs lists its jobs.")
    return job_id
