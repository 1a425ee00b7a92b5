"""Contacts that are imported again, and statuses that a file states."""

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


class ImportDriver:
    """A driver that imports into an account of its own."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, account: str) -> None:
        self.pool = pool
        self.settings = settings
        self.account = account
        self.run = InProcessRunner(pool, settings, chunk_size=4, parallel=2)

    async def import_rows(self, rows: list[list[str]], *, permission: bool = True) -> int:
        """Import a file of these rows, the first of which is the header; return the job's id."""
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return await self.run(
            self.account, "import", text.getvalue().encode(), None, {"permission": permission}
        )

    async def import_with_statuses(
        self, rows: list[tuple[str, list[Status | None]]], **params
    ) -> int:
        """Import rows of addresses, separated by spaces, with the statuses that the file states."""
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
                        addresses=pad_to_three(
                            [normalize_address(address) for address in text.split()]
                        ),
                        statuses=pad_to_three(stated),
                    )
                    for line, (text, stated) in enumerate(rows, start=2)
                ],
            )
            await imports.stage_rows(connection, packed)
        await self.run.work(job_id)
        return job_id

    async def opt_out(self, address: str) -> None:
        """Opt the address out as its recipient would."""
        await opt_out_immediately(
            self.pool,
            self.settings.model_copy(update={"role_address_limit": LIMIT}),
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

    async def count_contacts(self) -> int:
        """Count the contacts of the account."""
        return await self.pool.fetchval(
            "select count(*) from contacts c join accounts a on a.id = c.account_id"
            " where a.name = $1",
            self.account,
        )


def pad_to_three(values: list) -> tuple:
    """Pad the values with None to a length of three."""
    return (*values, *[None] * (3 - len(values)))


@pytest.fixture
async def driver(pool: asyncpg.Pool, settings: Settings) -> ImportDriver:
    """Create an account, and return a driver that imports into it."""
    await make_account(pool, "lists")
    return ImportDriver(pool, settings, "lists")


@pytest.fixture(autouse=True)
async def _verified(pool: asyncpg.Pool, driver: ImportDriver):
    """Check that every invariant holds after each of these tests."""
    yield
    async with pool.acquire() as connection:
        for invariant in INVARIANTS:
            found = await check_invariant(connection, invariant, role_address_limit=LIMIT)
            assert not found.violations, (invariant.name, found.examples)


async def test_repeated_imports_leave_one_contact_that_can_opt_out(
    pool: asyncpg.Pool, driver: ImportDriver
):
    """Importing one contact more often than ROLE_ADDRESS_LIMIT leaves a single contact. Its
    opt-out is propagated to its other address.
    """
    jobs = [await driver.import_rows(NIGHTLY) for _ in range(LIMIT + 2)]
    assert await driver.count_contacts() == 1
    assert await pool.fetchval("select count(*) from recognized_rows") == len(jobs) - 1
    await driver.opt_out(WORK)
    assert await statuses_of(pool, await _account(pool)) == {
        WORK: ("manual", False),
        HOME: ("manual", True),
    }


async def test_imports_of_one_file_at_the_same_time_make_one_contact(
    pool: asyncpg.Pool, driver: ImportDriver
):
    """Concurrent imports of one file create one contact; the other imports recognize it."""
    await asyncio.gather(*(driver.import_rows(NIGHTLY) for _ in range(4)))
    assert await driver.count_contacts() == 1


async def test_duplicates_under_other_names_count_once(pool: asyncpg.Pool, driver: ImportDriver):
    """Rows with the same addresses and different names become separate contacts. They count once
    towards the limit, so the shared address is no role address.
    """
    names = ["Nora", "N.", "Nora Night", "Nora (old)", "NN"]
    await driver.import_rows([NIGHTLY[0], *([name, WORK, HOME] for name in names)])
    assert await driver.count_contacts() == len(names)
    await driver.opt_out(HOME)
    assert (await statuses_of(pool, await _account(pool)))[WORK] == ("manual", True)


async def test_another_file_adds_its_data_to_a_contact(pool: asyncpg.Pool, driver: ImportDriver):
    """A file with a name, an id and another address for an existing contact adds them to that
    contact. A later opt-out is propagated to the new address too.
    """
    await driver.import_rows([["Email"], [WORK]])
    other = await driver.import_rows(
        [
            ["Contact Id", "First Name", "Company", "Email", "Email 2"],
            ["7", "Nora", "Inc", HOME, WORK],
        ]
    )
    contact = await pool.fetchrow("select * from contacts")
    assert (contact["given_name"], contact["company"]) == ("Nora", "Inc")
    fields = await pool.fetch("select field from contact_emails order by field")
    assert [row["field"] for row in fields] == [1, 2]
    # Results of a recognized row are shown with its contact.
    shown = await pool.fetchval("select contact_id from recognized_rows where job_id = $1", other)
    assert shown == contact["id"]
    await driver.opt_out(WORK)
    assert (await statuses_of(pool, await _account(pool)))[HOME] == ("manual", True)


async def test_an_address_added_next_to_an_opt_out_is_opted_out(
    pool: asyncpg.Pool, driver: ImportDriver
):
    """Promise 2: a file adds an address to a contact. Another address of that contact, which the
    row does not name, is opted out in its own right. The new address is opted out too.
    """
    third = "nora@third.example"
    await driver.import_rows(NIGHTLY)
    await pool.execute("update contacts set external_id = '7', family_name = 'Night'")
    await driver.opt_out(HOME)
    await driver.import_rows(
        [
            ["Contact Id", "First Name", "Last Name", "Email"],
            ["7", "Nora", "Night", third],
        ]
    )
    assert (await statuses_of(pool, await _account(pool)))[third] == ("manual", True)


async def test_adding_an_opted_out_address_opts_out_its_siblings(
    pool: asyncpg.Pool, driver: ImportDriver
):
    """Promise 2: an address that was opted out while no contact held it is added to a contact. The
    opt-out is propagated to the contact's other addresses.
    """
    await driver.import_rows([["First Name", "Email"], ["Nora", WORK]])
    await driver.opt_out(HOME)
    await driver.import_rows([["First Name", "Email", "Email 2"], ["Nora", WORK, HOME]])
    assert await statuses_of(pool, await _account(pool)) == {
        HOME: ("manual", False),
        WORK: ("manual", True),
    }


async def test_selecting_by_import_includes_recognized_contacts(
    pool: asyncpg.Pool, driver: ImportDriver
):
    """Selecting by import covers every contact in its file, both created and recognized."""
    await driver.import_rows(NIGHTLY)
    again = await driver.import_rows([*NIGHTLY, ["Otto", "otto@example.com", ""]])
    selected = await pool.fetchval(
        "select count(*) from contacts c where c.import_job_id = $1 or c.id in"
        " (select contact_id from recognized_rows where job_id = $1)",
        again,
    )
    assert selected == 2


async def test_a_stated_opt_out_applies_to_new_and_existing_addresses(
    pool: asyncpg.Pool, driver: ImportDriver
):
    """A stated opt-out is the first status of a new address, even with permission. It also opts out
    an address that exists, with its siblings on contacts of other imports.
    """
    account_id = await _account(pool)
    await fill(
        pool,
        account_id,
        {1_000_000: {1: "pia@example.com", 2: "pia@home.example"}},
        dict.fromkeys(("pia@example.com", "pia@home.example"), ("single_opt_in", False)),
    )
    await pool.execute("update contacts set given_name = 'Maria'")
    await driver.import_with_statuses(
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
async def test_the_strongest_of_contradicting_statuses_counts(
    pool: asyncpg.Pool, driver: ImportDriver, first: int
):
    """If a file states several statuses for one address, the strongest counts, in any order and
    chunk.
    """
    rows = [
        ("both@example.com", [Status.CONFIRMED]),
        ("both@example.com x@example.com", [Status.SPAM, None]),
    ]
    job_id = await driver.import_with_statuses([*rows[first:], *rows[:first]], permission=True)
    assert await statuses_of(pool, await _account(pool)) == {
        "both@example.com": ("spam", False),
        "x@example.com": ("admin", True),
    }
    counts = await pool.fetchrow("select applied, propagated from jobs where id = $1", job_id)
    assert tuple(counts) in {(2, 1), (1, 1)}


async def test_a_stated_marketable_status_needs_permission(
    pool: asyncpg.Pool, driver: ImportDriver
):
    """A column alone never grants permission. Without it no address becomes marketable, neither a
    new nor an existing one. With it, the stated status is kept.
    """
    await driver.import_with_statuses([("a@example.com", [Status.CONFIRMED])], permission=False)
    await driver.import_with_statuses([("b@example.com", [Status.CONFIRMED])], permission=True)
    await driver.import_with_statuses([("c@example.com", [Status.NON_MARKETABLE])], permission=True)
    assert await statuses_of(pool, await _account(pool)) == {
        "a@example.com": ("non_marketable", False),
        "b@example.com": ("confirmed", False),
        "c@example.com": ("non_marketable", False),
    }


async def _account(pool: asyncpg.Pool) -> int:
    return await pool.fetchval("select id from accounts where name = 'lists'")
