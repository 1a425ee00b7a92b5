"""The result of an import does not depend on how its rows are cut into chunks."""

import csv
import io
from collections import Counter
from itertools import count
from typing import Any, NamedTuple

import asyncpg
import pytest
from hypothesis import strategies as st

from db.invariants import INVARIANTS, check_invariant
from db.pool import open_pool
from engine.sources import import_rows
from engine.sources.import_rows import CHUNK_SIZE_SHARE
from runtime.settings import Settings
from schemas.requests import LISTED_ADDRESS_FIELD
from tests.kit.factories import make_account
from tests.kit.in_process import InProcessRunner
from tests.kit.model_comparison import ADDRESSES, KINDS, LIMIT, read_counts
from tests.kit.property_examples import check_property

ROWS_IN_CHUNK = (1, 2, 3, 100)
HEADER = ["Contact Id", "First Name", "Last Name", "Company", "Email", "Email 2", "Email 3"]
STATUSES = ["", "", "single_opt_in", "bounce", "admin", "manual"]
"""What a file may state; an import with any of it has a column of statuses."""

rows = st.tuples(
    st.sampled_from(["", "", "1", "2", "3"]),
    st.sampled_from(["", "Ann", "Bob"]),
    st.sampled_from(["", "", "Day", "Night"]),
    st.sampled_from(["", "", "Inc", "Ltd"]),
    st.sampled_from(STATUSES),
    st.lists(st.sampled_from(ADDRESSES[:5]), min_size=1, max_size=3, unique=True),
)
imports = st.tuples(st.lists(rows, min_size=1, max_size=7), st.booleans(), st.booleans())
"""Rows, with or without permission, with or without statuses."""
opt_outs = st.tuples(
    st.lists(st.sampled_from(ADDRESSES[:5]), min_size=1, max_size=2, unique=True),
    st.sampled_from(KINDS),
    st.none(),
)
jobs_of_account = st.lists(st.one_of(imports, imports, opt_outs), min_size=1, max_size=4)

A0, A1, A2, A3, A4 = ADDRESSES[:5]


def _row(*addresses: str, name: str = "", status: str = "") -> tuple[Any, ...]:
    return "", name, "", "", status, list(addresses)


ADDED_IN_ITS_CHUNK = [([_row(A0), _row(A0, A1)], False, False)]
BECOMES_ROLE_ADDRESS = [
    ([_row(A0), _row(A1, name="Ann"), _row(A1, A3, name="Bob")], False, False),
    ([_row(A0, A1), _row(A1, A2)], False, False),
]
ADDED_NEXT_TO_A_KNOWN_ADDRESS = [
    ([A0], "admin", None),
    ([_row(A1), _row(A0)], False, False),
    ([_row(A0, A1), _row(A1, A2)], True, False),
]
ROLE_ADDRESS_OF_LATER_ROWS = [
    (
        [
            _row(A0),
            _row(A0, A1, A4),
            _row(A0),
            _row(A0, A1, A3),
            _row(A0, A1, A2, status="admin"),
        ],
        False,
        True,
    )
]

_numbers = count(1)


class _Account(NamedTuple):
    """What jobs left behind, with the contacts numbered in the order of their rows."""

    contacts: list[Any]
    addresses: list[Any]
    counts: list[Counter | int]
    recognized: list[Any]


async def test_an_import_gives_the_same_with_any_chunk_size(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Promises 3 and 4: rows that follow each other in one chunk give the contacts, links,
    statuses and counts that they give in chunks of their own.
    """
    async with await open_pool(database_url, size=2) as pool:

        async def check(jobs, max_contacts) -> None:
            monkeypatch.setattr(import_rows, "MAX_CONTACTS_TO_RECOGNIZE", max_contacts)
            expected = await _run_jobs(pool, settings, jobs, ROWS_IN_CHUNK[0])
            for rows_in_chunk in ROWS_IN_CHUNK[1:]:
                account = await _run_jobs(pool, settings, jobs, rows_in_chunk)
                for part, value in account._asdict().items():
                    assert value == getattr(expected, part), (part, rows_in_chunk)

        await check_property(
            check,
            jobs_of_account,
            st.sampled_from([2, 4, 1_000]),
            max_examples=30,
            explicit_examples=(
                (ADDED_IN_ITS_CHUNK, 1_000),
                (BECOMES_ROLE_ADDRESS, 1_000),
                (ADDED_NEXT_TO_A_KNOWN_ADDRESS, 1_000),
                (ROLE_ADDRESS_OF_LATER_ROWS, 1_000),
            ),
        )


async def _run_jobs(pool: asyncpg.Pool, settings: Settings, jobs, rows_in_chunk: int) -> _Account:
    account = f"chunk-sizes-{next(_numbers)}"
    account_id = await make_account(pool, account)
    chunk_size = -(-rows_in_chunk // CHUNK_SIZE_SHARE)
    run = InProcessRunner(pool, settings, chunk_size=int(chunk_size), parallel=1)
    job_ids = []
    for what, how, with_statuses in jobs:
        if with_statuses is None:
            arguments = ("opt_out", what, [LISTED_ADDRESS_FIELD], {"kind": how})
        else:
            file = _csv_of(what, with_statuses=with_statuses)
            arguments = ("import", file, None, {"permission": how})
        job_ids.append(await run(account, *arguments))
    async with pool.acquire() as connection:
        for invariant in INVARIANTS:
            found = await check_invariant(
                connection, invariant, role_address_limit=LIMIT, account_id=account_id
            )
            assert not found.violations, (invariant.name, found.examples)
    return await _read_account(pool, account_id, job_ids)


def _csv_of(what, *, with_statuses: bool) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*HEADER, *["Status"] * with_statuses])
    for *cells, status, held in what:
        writer.writerow([*cells, *held, *[""] * (3 - len(held)), *[status] * with_statuses])
    return text.getvalue().encode()


async def _read_account(pool: asyncpg.Pool, account_id: int, job_ids: list[int]) -> _Account:
    contacts = await pool.fetch(
        "select rank() over (order by c.id) as contact, c.given_name, c.family_name, c.company,"
        " c.external_id, c.is_repeat, array("
        "  select (l.field, a.match_key)::text from contact_emails l"
        "  join email_addresses a on a.id = l.address_id"
        "  where l.contact_id = c.id order by l.field) as links"
        " from contacts c where c.account_id = $1 order by c.id",
        account_id,
    )
    addresses = await pool.fetch(
        "select match_key, address, status, propagated_from is not null as is_propagated,"
        " contact_count, repeat_count from email_addresses"
        " where account_id = $1 order by match_key",
        account_id,
    )
    recognized = await pool.fetch(
        "select r.job_id - $2 as job, (select count(*) from contacts c"
        "  where c.account_id = $1 and c.id < r.item_id) as row,"
        " (select count(*) from contacts c where c.account_id = $1 and c.id <= r.contact_id)"
        "  as contact, r.added_fields"
        " from recognized_rows r where r.account_id = $1 order by r.item_id",
        account_id,
        job_ids[0],
    )
    return _Account(
        [tuple(each) for each in contacts],
        [tuple(each) for each in addresses],
        [await _comparable_counts(pool, job_id) for job_id in job_ids],
        [tuple(each) for each in recognized],
    )


async def _comparable_counts(pool: asyncpg.Pool, job_id: int) -> Counter | int:
    """Return the counts of a job, or only their sum if its file states statuses.

    An opt-out that the file states may be propagated to an address before the row of that address
    has its turn. The row is then rejected; in the same chunk it is applied before the propagation.
    """
    counts = await read_counts(pool, job_id)
    states = await pool.fetchval("select params -> 'statuses' from jobs where id = $1", job_id)
    return counts.total() if states else counts
