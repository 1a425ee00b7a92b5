"""Finding contacts by the statuses of their addresses: whom a bulk action would be about."""

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
from schemas.requests import DEFAULT_FIELDS, FIELD_NAMES, FIELD_NUMBERS, MAX_ID, FieldName
from schemas.statuses import Status
from web.auth import AddressesReader
from web.number_params import QUERY_NUMBER
from web.pagination import Cursor, Limit, decode_cursor, encode_cursor
from web.problems import INVALID, NOT_FOUND, problem_responses
from web.state import State

router = APIRouter(tags=["addresses"])


def _require_iso_date(text: str) -> str:
    """Accept a date only as text: a number would be read as seconds, which is never intended."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("give a day as YYYY-MM-DD")
    return text


IsoDate = Annotated[date, BeforeValidator(_require_iso_date)]


class ContactAddress(BaseModel):
    """An address that a contact holds."""

    field: str
    address: str
    status: Status


class Contact(BaseModel):
    """A contact, and all that it holds."""

    id: int
    given_name: str | None
    family_name: str | None
    company: str | None
    emails: list[ContactAddress]

    @classmethod
    def from_row(cls, contact: contacts.Contact) -> Self:
        """Build a contact of the response, with its fields by their names."""
        emails: list[dict[str, Any]] = [
            {**held, "field": FIELD_NAMES[held["field"]]} for held in contact.emails
        ]
        return cls(**contact._asdict() | {"emails": emails})


class ContactPage(BaseModel):
    """A page of contacts, in order of their ids."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "contacts": [
                        {
                            "id": 17,
                            "given_name": "Ann",
                            "family_name": "Other",
                            "company": None,
                            "emails": [
                                {
                                    "field": "email1",
                                    "address": "ann@example.com",
                                    "status": "non_marketable",
                                }
                            ],
                        }
                    ],
                    "fields": ["email1"],
                    "counts": {"confirmed": 1200, "non_marketable": 300},
                    "next": "WzE3XQ",
                }
            ]
        }
    )

    contacts: list[Contact]
    fields: Annotated[
        list[FieldName],
        Field(
            description="In which fields `status` and `engaged_before` were looked for, and"
            " addresses counted. A job that is to work these contacts has the same `fields`."
        ),
    ]
    counts: Annotated[
        dict[Status, int] | None,
        Field(
            description="How many addresses of each status are held, in one of the fields, by"
            " contacts with the tag and of the import that were asked for, or by any contact of the"
            " account: whatever `status` and `engaged_before` say, so that the whole is seen beside"
            " the part. Null unless `counts` was asked for, and after the first page."
        ),
    ]
    next: Annotated[
        str | None,
        Field(
            description="The cursor of the next page, null after the last."
            f" {contacts.MAX_SCANNED_CONTACTS:,} contacts are looked through for a page: it may be"
            " empty and not be the last."
        ),
    ]


@router.get(
    "/v1/contacts",
    operation_id="find_contacts",
    summary="Find contacts by what their addresses are",
    response_description="A page of contacts.",
    responses=problem_responses(INVALID, NOT_FOUND),
)
async def find_contacts(
    *,
    state: State,
    caller: AddressesReader,
    status: Annotated[
        list[Status] | None,
        Query(
            description="Contacts with an address of this status in one of the fields; repeatable."
        ),
    ] = None,
    field: Annotated[
        list[FieldName] | None,
        Query(
            description="In which fields `status` and `engaged_before` look, and `counts` counts:"
            f" as a job's `fields`, {', '.join(DEFAULT_FIELDS)} where none is named; repeatable."
        ),
    ] = None,
    tag: Annotated[
        str | None, Query(min_length=1, max_length=200, description="Contacts with this tag.")
    ] = None,
    import_job: Annotated[
        int | None,
        Query(alias="import", description="Contacts whom this import brought."),
        QUERY_NUMBER,
    ] = None,
    engaged_before: Annotated[
        IsoDate | None,
        Query(
            description="Contacts with an address in one of the fields whose owner is known to have"
            " engaged before this day (UTC) for the last time. Sluice keeps no engagement: it is"
            " known only of an address that became `unengaged_marketable` or"
            " `unengaged_non_marketable` before that day, and still is that. Of any other nothing"
            " is known, so it is not found; nobody counts as disengaged because no mail was sent."
        ),
    ] = None,
    counts: Annotated[
        bool,
        Query(
            description="Count addresses by status as well, on the first page. Without tag and"
            " import that goes through all of the account's."
        ),
    ] = False,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> ContactPage:
    """Find the contacts that meet all conditions, with all their addresses.

    One and the same address of a contact, in one of the fields, must meet `status` and
    `engaged_before`. A job with the same selection and `fields` works on what `status`, `tag`,
    `import` and `field` find.
    """
    after = -MAX_ID - 1
    if cursor is not None:
        (after,) = decode_cursor(cursor, int)
    fields = sorted(set(field or DEFAULT_FIELDS))
    async with state.pool.acquire() as connection:
        sought = ContactFilter(
            caller.account_id,
            [FIELD_NUMBERS[name] for name in fields],
            await _find_tag_id(connection, caller.account_id, tag),
            await _require_import(connection, caller.account_id, import_job),
            status,
            datetime.combine(engaged_before, time(), UTC) if engaged_before else None,
        )
        found, following = await contacts.find_contacts(
            connection, sought, after=after, limit=limit
        )
    counted = None
    if counts and cursor is None:
        async with (
            state.long_request_slots.hold(caller.account_id),
            state.pool.acquire() as connection,
        ):
            counted = await contacts.count_addresses(connection, sought)
    return ContactPage(
        contacts=[Contact.from_row(contact) for contact in found],
        fields=fields,
        counts=counted,
        next=None if following is None else encode_cursor(following),
    )


async def _find_tag_id(
    connection: asyncpg.Connection, account_id: int, tag: str | None
) -> int | None:
    if tag is None:
        return None
    found = await contacts.get_tag_id(connection, account_id, tag)
    if found is None:
        raise NotFound("The account has no tag of this name; nothing was read.")
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
