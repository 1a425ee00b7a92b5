"""An account with almost every possible event in its history, made by real jobs.

There are imports, opt-outs and opt-ins over shared and role addresses. Jobs are paused, resumed,
cancelled and failed midway; contacts cannot be written, and their chunks are split.
"""

from itertools import count

import asyncpg

from db import job_progress, jobs
from db.job_progress import JobToWork
from engine.chunk_runner import ChunkFailed, ChunkRunner
from engine.finalize import complete_job, fail_job
from engine.planner import plan_job
from engine.retry_policy import FailureHandler
from producers import control
from producers.immediate_opt_out import opt_out_immediately
from producers.submit import submit
from runtime.settings import Settings
from schemas.job_key import JobKey
from schemas.requests import JobRequest, Selection
from schemas.statuses import Status
from tests.kit.factories import fill, make_account
from tests.kit.model_comparison import LIMIT
from tests.kit.submitting import submit_job

FIRST_OLD_CONTACT = 1_000_000
"""Contacts from this id on were created by no import."""

REFUSED_BY_POSTGRES = """
    create function refuse_poison() returns trigger language plpgsql as $$
    begin
        raise exception 'this address cannot be written';
    end $$;
    create trigger poison_is_rejected before insert on email_addresses for each row
        when (new.match_key like 'unborn%') execute function refuse_poison();
    create trigger poison_stays before update of status on email_addresses for each row
        when (new.match_key like 'poison%') execute function refuse_poison();
"""


class AccountDriver:
    """Submits jobs of one account and runs them in this process, with a few contacts a chunk."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, account: str) -> None:
        self.pool = pool
        # The jobs run in this process, so no Redis is needed.
        self.settings = settings.model_copy(
            update={"role_address_limit": LIMIT, "redis_url": "redis://127.0.0.1:1/0"}
        )
        self.account = account

    async def submit(self, action, what, fields=None, **params) -> int:
        """Submit a job and return its id.

        For an import, `what` is rows of addresses, each with a name or named by its first address.
        """
        if action == "import":
            named = [row if isinstance(row, tuple) else (row[0].split("@")[0], row) for row in what]
            rows = [",".join([name, *held, "", ""][:4]) for name, held in named]
            what = "\n".join(["First Name,Email,Email 2,Email 3", *rows]).encode()
        return await submit_job(
            self.pool, self.settings, self.account, action, what, fields, params
        )

    async def work(self, job_id: int, *, chunks: int | None = None, chunk_size: int = 4) -> None:
        """Run the job to its end, or for this many chunks or attempts."""
        async with self.pool.acquire() as connection:
            account_id = await jobs.account_of_job(connection, job_id)
            assert account_id is not None
            await plan_job(
                connection, JobKey(account_id, job_id), chunk_size=chunk_size, max_lanes=1
            )
            job = await self._job(connection, job_id)
            runner = ChunkRunner.for_job(job, role_address_limit=LIMIT, worker="test")
            failure_handler = FailureHandler(job, "test", 0.0)
            for _ in range(chunks) if chunks is not None else count():
                try:
                    if await runner.run_next(connection) is None:
                        break
                except ChunkFailed as failed:
                    error = failed.__cause__ or failed
                    await failure_handler.handle(connection, failed.chunk, error, is_counted=False)
            if chunks is None:
                ended = await complete_job(connection, job, role_address_limit=LIMIT)
                assert ended is not None

    async def run(self, action, what, fields=None, **params) -> int:
        """Submit a job and run it to its end; return its id."""
        job_id = await self.submit(action, what, fields, **params)
        await self.work(job_id)
        return job_id

    async def opt_out_immediately(self, contacts: list[int], field: str) -> None:
        """Submit an immediate opt-out, as for a recipient."""
        request = JobRequest(
            account=self.account,
            action="opt_out",
            selection=Selection(contacts=tuple(contacts)),
            fields=(field,),
            params={"kind": "manual"},
            requested_by="recipient",
        )
        assert (await opt_out_immediately(self.pool, self.settings, request)).applied

    async def run_empty_job(self) -> None:
        """Run a job whose selection is empty."""
        request = JobRequest(
            account=self.account,
            action="opt_out",
            selection=Selection(statuses=(Status.LOCKDOWN,)),
            requested_by="nobody",
        )
        await self.work((await submit(self.pool, self.settings, request)).job_id)

    async def fail(self, job_id: int) -> None:
        """End the job as failed."""
        async with self.pool.acquire() as connection:
            job = await self._job(connection, job_id)
            assert await fail_job(connection, job, "it could not be done", role_address_limit=LIMIT)

    async def pause(self, job_id: int) -> None:
        """Pause the job, as a user may at any time."""
        await control.pause(self.pool, self.settings, None, job_id)

    async def resume(self, job_id: int) -> None:
        """Resume the job."""
        await control.resume(self.pool, self.settings, None, job_id)

    async def cancel(self, job_id: int) -> None:
        """Cancel the job."""
        await control.cancel(self.pool, self.settings, None, job_id)

    async def contacts_of(self, job_id: int) -> list[int]:
        """Return the contacts that an import created, in the order of its file."""
        rows = await self.pool.fetch(
            "select id from contacts where import_job_id = $1 order by id", job_id
        )
        return [row["id"] for row in rows]

    async def _job(self, connection: asyncpg.Connection, job_id: int) -> JobToWork:
        account_id = await jobs.account_of_job(connection, job_id)
        assert account_id is not None
        job = await job_progress.get_job_to_work(connection, JobKey(account_id, job_id))
        assert job is not None
        return job


async def make_sample_account(pool: asyncpg.Pool, settings: Settings, account: str) -> int:
    """Create an account with this history; return its id."""
    account_id = await make_account(pool, account)
    await pool.execute(REFUSED_BY_POSTGRES)
    driver = AccountDriver(pool, settings, account)
    old = await _fill_old_contacts(pool, account_id)
    contacts = await _import_contacts(driver)
    await _change_statuses(driver, contacts, old)
    await _interrupt_opt_outs(driver, contacts, old)
    await _import_into_known_addresses(driver)
    await _interrupt_imports(driver)
    return account_id


async def _fill_old_contacts(pool: asyncpg.Pool, account_id: int) -> int:
    """Insert contacts that no import created; return the id of the first."""
    old = FIRST_OLD_CONTACT + 10 * account_id
    await fill(
        pool,
        account_id,
        {
            old: {1: "old@example.com"},
            old + 1: {1: "gone@example.com"},
            old + 2: {1: "left@example.com"},
            old + 3: {1: "away@example.com"},
        },
        {
            "old@example.com": ("non_marketable", False),
            "gone@example.com": ("manual", False),
            "left@example.com": ("manual", False),
            "away@example.com": ("admin", False),
        },
    )
    await pool.execute("update contacts set given_name = 'Old' where account_id = $1", account_id)
    return old


async def _import_contacts(driver: AccountDriver) -> list[int]:
    """Import contacts with shared and role addresses, one that cannot be written, and a repeat."""
    arrived = await driver.run(
        "import",
        [
            ["ann@example.com", "ann@example.org"],
            ["bob@example.com", "family@example.com"],
            ["cid@example.com", "family@example.com"],
            ["poison@example.com"],
            *([f"staff{n}@example.com", "info@example.com"] for n in range(5)),
            ["ann@example.com", "annes@example.com"],
            ["eve@example.com"],
            ["fay@example.com", "fay@example.org", "fay@example.net"],
            ["unborn@example.com", "never@example.com"],
        ],
        permission=False,
    )
    return await driver.contacts_of(arrived)


async def _change_statuses(driver: AccountDriver, contacts: list[int], old: int) -> None:
    """Run opt-outs and opt-ins that overlap, and an immediate opt-out."""
    ann, _, _, _, *staff = contacts
    eve, fay = contacts[-2:]
    await driver.run("opt_out", [ann], [1], kind="manual")
    await driver.run("opt_out", staff[:2], [2])
    await driver.run("opt_in", [*contacts, old, 999_999_999], [1, 2, 3])
    await driver.run("opt_in", [*contacts], [1])
    await driver.run("opt_out", [fay, eve], [1])
    await driver.run("opt_out", [fay, ann], [1, 2], kind="spam")
    await driver.run("opt_out", [ann, fay, 999_999_999], [1, 3], kind="manual")

    await driver.opt_out_immediately([staff[2], 999_999_999], "email1")


async def _interrupt_opt_outs(driver: AccountDriver, contacts: list[int], old: int) -> None:
    """Pause and resume a job, and cancel others, one before its plan; run an empty one."""
    _, bob, cid, poison, *staff = contacts
    eve = contacts[-2]
    resumed = await driver.submit("opt_out", [bob, cid, poison, eve, staff[4], old], [1])
    await driver.work(resumed, chunks=1)
    await driver.pause(resumed)
    await driver.resume(resumed)
    await driver.work(resumed)
    cancelled = await driver.submit("opt_out", [*contacts], [2], kind="list_unsubscribe")
    await driver.work(cancelled, chunks=2)
    await driver.cancel(cancelled)
    never_begun = await driver.submit("opt_in", [eve], [1])
    await driver.cancel(never_begun)
    await driver.run_empty_job()


async def _import_into_known_addresses(driver: AccountDriver) -> None:
    """Import contacts whose addresses the account knows."""
    await driver.run(
        "import",
        [
            ["new@example.com", "ann@example.com"],
            ["staff2@example.com"],
            ["staff2@example.com", "new@example.org"],
            ["gil@example.com", "info@example.com"],
        ],
        permission=True,
    )


async def _interrupt_imports(driver: AccountDriver) -> None:
    """Cancel an import, fail one and pause one, each after its first chunk."""
    for number, end in enumerate([driver.cancel, driver.fail]):
        spared = ("left@example.com", "away@example.com")[number]
        rows = [[f"late{number}.{n}@example.com", spared] for n in range(9)]
        cut_short = await driver.submit("import", rows, permission=True)
        # By the file's rows the address is a role address; by the contacts imported so far it is
        # not.
        await driver.work(cut_short, chunks=1, chunk_size=2)
        if end == driver.cancel:
            await driver.pause(cut_short)
        await end(cut_short)
    rows = [[f"wait{n}@example.com", "gone@example.com", "info@example.com"] for n in range(9)]
    waiting = await driver.submit("import", rows, permission=True)
    await driver.work(waiting, chunks=1, chunk_size=2)
    await driver.pause(waiting)
