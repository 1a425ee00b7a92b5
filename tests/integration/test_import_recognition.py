"""People who are imported again, and statuses that files state."""

import asyncio
import csv
import io

import asyncpg
import pytest

from db import imports
from db.invariants import INVARIANTS, check_invariant
from producers.immediate_opt_out import opt_out_immediately
from producers.recipient_events import opt_out_request
from runtime.settings import Settings
from schemas.addresses import normalize_address
from schemas.job_key import JobKey
from schemas.staging import ImportRow
from schemas.statuses import Status
from tests.kit.factories import fill, make_account, statuses_of
from tests.kit.in_process import InProcessRunner
from tests.kit.model_comparison import LIMIT

HOME, WORK = "nora.home@example.org", "nora@example.com"
NIGHTLY = [["First Name", "Email", "Email Address 2"], ["Nora", WORK, HOME]]


class Importing:
    """Imports into an account of its own."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, account: str) -> None:
        self.pool = pool
        self.settings = settings
        self.account = account
        self.run = InProcessRunner(pool, settings, chunk_size=4, parallel=2)

    async def rows(self, rows: list[list[str]], *, permission: bool = True) -> int:
        """Import a file of these rows, the first of them its header; gives the job."""
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return await self.run(
            self.account, "import", text.getvalue().encode(), None, {"permission": permission}
        )

    async def stating(self, rows: list[tuple[str, list[Status | None]]], **params) -> int:
        """Import rows of addresses, divided by blanks, with the statuses that the file states."""
        account_id = await self.pool.fetchval(
            "select id from accounts where name = $1", self.account
        )
        async with self.pool.acquire() as connection, connection.transaction():
            job_id = await connection.fetchval(
                "insert into jobs (account_id, action, fields, selection, params, requested_by,"
                " request_hash, correlation_id)"
                " values ($1, 'import', '{1,2,3}', '{}', $2, 'test', '', '') returning id",
                account_id,
                {"statuses": True, **params},
            )
            packed = imports.pack_rows(
                JobKey(account_id, job_id),
                [
                    ImportRow(
                        line,
                        given_name=None,
                        family_name=None,
                        company=None,
                        tags=(),
                        identities=of_three(
                            [normalize_address(address) for address in text.split()]
                        ),
                        statuses=of_three(stated),
                    )
                    for line, (text, stated) in enumerate(rows, start=2)
                ],
            )
            await imports.stage_rows(connection, packed)
        await self.run.work(job_id)
        return job_id

    async def opt_out(self, address: str) -> None:
        """Opt the address out, by its owner's own act."""
        await opt_out_immediately(
            self.pool,
            self.settings.model_copy(update={"shared_address_limit": LIMIT}),
            opt_out_request(
                account=self.account,
                addresses=[address],
                kind=Status.MANUAL,
                source="test",
                key=f"opt-out of {address}",
                requested_by="the recipient",
                correlation_id="test",
            ),
        )

    async def contacts(self) -> int:
        """Count the contacts of the account."""
        return await self.pool.fetchval(
            "select count(*) from contacts c join accounts a on a.id = c.account_id"
            " where a.name = $1",
            self.account,
        )


def of_three(values: list) -> tuple:
    """Fill the values up to three with None."""
    return (*values, *[None] * (3 - len(values)))


@pytest.fixture
async def importing(pool: asyncpg.Pool, settings: Settings) -> Importing:
    """Create an account, and return what imports files into it."""
    await make_account(pool, "lists")
    return Importing(pool, settings, "lists")


@pytest.fixture(autouse=True)
async def _verified(pool: asyncpg.Pool, importing: Importing):
    """After each of these tests every invariant holds."""
    yield
    async with pool.acquire() as connection:
        for invariant in INVARIANTS:
            found = await check_invariant(connection, invariant, shared_address_limit=LIMIT)
            assert not found.violations, (invariant.name, found.examples)


async def test_a_nightly_import_leaves_one_contact_whose_opt_out_reaches_all_of_it(
    pool: asyncpg.Pool, importing: Importing
):
    """A person who is imported more often than the limit of shared addresses is one contact, and
    her opt-out reaches her other address.
    """
    jobs = [await importing.rows(NIGHTLY) for _ in range(LIMIT + 2)]
    assert await importing.contacts() == 1
    assert await pool.fetchval("select count(*) from recognized_rows") == len(jobs) - 1
    await importing.opt_out(WORK)
    assert await statuses_of(pool, await _account(pool)) == {
        WORK: ("manual", False),
        HOME: ("manual", True),
    }


async def test_imports_of_one_file_at_the_same_time_make_one_contact(
    pool: asyncpg.Pool, importing: Importing
):
    """Whichever of them comes first: the others recognize whom it has made."""
    await asyncio.gather(*(importing.rows(NIGHTLY) for _ in range(4)))
    assert await importing.contacts() == 1


async def test_the_same_people_under_other_names_count_as_one(
    pool: asyncpg.Pool, importing: Importing
):
    """Rows with the same addresses and other names are contacts of their own, and one person for
    the limit: the address is no role address because of them.
    """
    names = ["Nora", "N.", "Nora Night", "Nora (old)", "NN"]
    await importing.rows([NIGHTLY[0], *([name, WORK, HOME] for name in names)])
    assert await importing.contacts() == len(names)
    await importing.opt_out(HOME)
    assert (await statuses_of(pool, await _account(pool)))[WORK] == ("manual", True)


async def test_another_file_adds_what_it_knows_more(pool: asyncpg.Pool, importing: Importing):
    """A file with a name, an id and a further address of a person who is there adds them to the
    contact; whatever is opted out later reaches the new address as well.
    """
    await importing.rows([["Email"], [WORK]])
    other = await importing.rows(
        [
            ["Contact Id", "First Name", "Company", "Email", "Email 2"],
            ["7", "Nora", "Inc", HOME, WORK],
        ]
    )
    contact = await pool.fetchrow("select * from contacts")
    assert (contact["given_name"], contact["company"]) == ("Nora", "Inc")
    fields = await pool.fetch("select field from contact_emails order by field")
    assert [row["field"] for row in fields] == [1, 2]
    # The results of a row that was recognized are shown with its contact.
    shown = await pool.fetchval("select contact_id from recognized_rows where job_id = $1", other)
    assert shown == contact["id"]
    await importing.opt_out(WORK)
    assert (await statuses_of(pool, await _account(pool)))[HOME] == ("manual", True)


async def test_an_address_added_next_to_an_opt_out_is_opted_out(
    pool: asyncpg.Pool, importing: Importing
):
    """Promise 2: an address that comes to a contact of which another one, which the row does not
    name, is opted out in its own right, is opted out with it.
    """
    third = "nora@third.example"
    await importing.rows(NIGHTLY)
    await pool.execute("update contacts set external_id = '7', family_name = 'Night'")
    await importing.opt_out(HOME)
    await importing.rows(
        [
            ["Contact Id", "First Name", "Last Name", "Email"],
            ["7", "Nora", "Night", third],
        ]
    )
    assert (await statuses_of(pool, await _account(pool)))[third] == ("manual", True)


async def test_an_opt_out_that_comes_to_a_contact_reaches_its_other_addresses(
    pool: asyncpg.Pool, importing: Importing
):
    """Promise 2: an address that was opted out before, on nobody, reaches those of the contact that
    it is added to.
    """
    await importing.rows([["First Name", "Email"], ["Nora", WORK]])
    await importing.opt_out(HOME)
    await importing.rows([["First Name", "Email", "Email 2"], ["Nora", WORK, HOME]])
    assert await statuses_of(pool, await _account(pool)) == {
        HOME: ("manual", False),
        WORK: ("manual", True),
    }


async def test_a_job_of_an_import_selects_whom_it_recognised(
    pool: asyncpg.Pool, importing: Importing
):
    """An import stands for the people in its file, whether it made or recognized them."""
    await importing.rows(NIGHTLY)
    again = await importing.rows([*NIGHTLY, ["Otto", "otto@example.com", ""]])
    selected = await pool.fetchval(
        "select count(*) from contacts c where c.import_job_id = $1 or c.id in"
        " (select contact_id from recognized_rows where job_id = $1)",
        again,
    )
    assert selected == 2


async def test_an_unsubscribed_column_opts_out_the_new_and_the_known(
    pool: asyncpg.Pool, importing: Importing
):
    """A stated opt-out is the first status of a new address, even with permission, and opts out one
    that is known, with whom it stands beside on contacts of other imports.
    """
    account_id = await _account(pool)
    await fill(
        pool,
        account_id,
        {1_000_000: {1: "pia@example.com", 2: "pia@home.example"}},
        dict.fromkeys(("pia@example.com", "pia@home.example"), ("single_opt_in", False)),
    )
    await pool.execute("update contacts set given_name = 'Maria'")
    await importing.stating(
        [
            ("new@example.com second@example.com", [Status.MANUAL, Status.MANUAL]),
            ("pia@example.com", [Status.MANUAL]),
            ("open@example.com", [None]),
        ],
        permission=True,
    )
    assert await statuses_of(pool, account_id) == {
        "new@example.com": ("manual", False),
        "second@example.com": ("manual", False),
        "pia@example.com": ("manual", False),
        "pia@home.example": ("admin", True),
        "open@example.com": ("single_opt_in", False),
    }


@pytest.mark.parametrize("first", [0, 1])
async def test_a_file_that_contradicts_itself_is_believed_where_it_suppresses(
    pool: asyncpg.Pool, importing: Importing, first: int
):
    """Of all that a file states for an address the strongest counts, in any order and chunk."""
    rows = [
        ("both@example.com", [Status.CONFIRMED]),
        ("both@example.com x@example.com", [Status.SPAM, None]),
    ]
    job_id = await importing.stating([*rows[first:], *rows[:first]], permission=True)
    assert await statuses_of(pool, await _account(pool)) == {
        "both@example.com": ("spam", False),
        "x@example.com": ("admin", True),
    }
    counts = await pool.fetchrow("select applied, propagated from jobs where id = $1", job_id)
    assert tuple(counts) in {(2, 1), (1, 1)}


async def test_marketable_is_stated_in_vain_without_permission(
    pool: asyncpg.Pool, importing: Importing
):
    """Consent is never taken from a column: without permission a new address is not marketable, and
    a known one is not lifted; with it, the file's own status is kept.
    """
    await importing.stating([("a@example.com", [Status.CONFIRMED])], permission=False)
    await importing.stating([("b@example.com", [Status.CONFIRMED])], permission=True)
    await importing.stating([("c@example.com", [Status.NON_MARKETABLE])], permission=True)
    assert await statuses_of(pool, await _account(pool)) == {
        "a@example.com": ("non_marketable", False),
        "b@example.com": ("confirmed", False),
        "c@example.com": ("non_marketable", False),
    }


async def _account(pool: asyncpg.Pool) -> int:
    return await pool.fetchval("select id from accounts where name = 'lists'")
