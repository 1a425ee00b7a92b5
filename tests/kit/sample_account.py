"""An account in which about everything has happened that can, by real jobs through the doors.

Imports, opt-outs and opt-ins over shared and role addresses; jobs paused, resumed, cancelled and
failed in the middle; contacts that could not be done, and chunks split on the way to them.
"""

from itertools import count

import asyncpg

from actions.registry import get_action
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
from schemas.requests import JobRequest, Selection
from schemas.statuses import Status
from tests.kit.factories import fill, make_account
from tests.kit.model_comparison import LIMIT
from tests.kit.submitting import submit_job

FIRST_OLD_CONTACT = 1_000_000
"""From here on are the contacts that no import of Sluice brought."""

REFUSED_BY_POSTGRES = """
    create function refuse_poison() returns trigger language plpgsql as $$
    begin
        raise exception 'this address cannot be written';
    end $$;
    create trigger poison_is_refused before insert on email_addresses for each row
        when (new.match_key like 'unborn%') execute function refuse_poison();
    create trigger poison_stays before update of status on email_addresses for each row
        when (new.match_key like 'poison%') execute function refuse_poison();
"""


class AccountDriver:
    """Hands jobs of one account in, and works them in this process, a few contacts a chunk."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, account: str) -> None:
        self.pool = pool
        # Nobody needs to hear of the jobs: they are worked driver.
        self.settings = settings.model_copy(
            update={"shared_address_limit": LIMIT, "redis_url": "redis://127.0.0.1:1/0"}
        )
        self.account = account

    async def submit(self, action, what, fields=None, **params) -> int:
        """A new job; an import of `what` takes rows of addresses, each with a name before them, or
        of somebody who is called like the first address.
        """
        if action == "import":
            named = [row if isinstance(row, tuple) else (row[0].split("@")[0], row) for row in what]
            rows = [",".join([name, *held, "", ""][:4]) for name, held in named]
            what = "\n".join(["First Name,Email,Email 2,Email 3", *rows]).encode()
        return await submit_job(
            self.pool, self.settings, self.account, action, what, fields, params
        )

    async def work(self, job_id: int, *, chunks: int | None = None, chunk_size: int = 4) -> None:
        """Work the job to its end, or so many chunks (or attempts at one) of it."""
        async with self.pool.acquire() as connection:
            account_id = await jobs.account_of_job(connection, job_id)
            assert account_id is not None
            await plan_job(connection, account_id, job_id, chunk_size=chunk_size, max_lanes=1)
            job = await self._job(connection, job_id)
            rules = get_action(job.action)
            runner = ChunkRunner.for_job(job, shared_address_limit=LIMIT, worker="test")
            failure_handler = FailureHandler(job, rules.creates_contacts, "test", 0.0)
            for _ in range(chunks) if chunks is not None else count():
                try:
                    if await runner.run_next(connection) is None:
                        break
                except ChunkFailed as failed:
                    error = failed.__cause__ or failed
                    await failure_handler.handle(connection, failed.chunk, error, is_counted=False)
            if chunks is None:
                ended = await complete_job(connection, job, shared_address_limit=LIMIT)
                assert ended is not None

    async def run(self, action, what, fields=None, **params) -> int:
        """A job from its submission to its end."""
        job_id = await self.submit(action, what, fields, **params)
        await self.work(job_id)
        return job_id

    async def opt_out_immediately(self, contacts: list[int], field: str) -> None:
        """A recipient's own opt-out, applied when it is answered."""
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
        """A job whose conditions nobody meets."""
        request = JobRequest(
            account=self.account,
            action="opt_out",
            selection=Selection(statuses=(Status.LOCKDOWN,)),
            requested_by="nobody",
        )
        await self.work((await submit(self.pool, self.settings, request)).job_id)

    async def fail(self, job_id: int) -> None:
        """End the job as one that cannot be done."""
        async with self.pool.acquire() as connection:
            job = await self._job(connection, job_id)
            assert await fail_job(
                connection, job, "it could not be done", shared_address_limit=LIMIT
            )

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
        """The contacts that an import brought, in the order of its file."""
        rows = await self.pool.fetch(
            "select id from contacts where import_job_id = $1 order by id", job_id
        )
        return [row["id"] for row in rows]

    async def _job(self, connection: asyncpg.Connection, job_id: int) -> JobToWork:
        account_id = await jobs.account_of_job(connection, job_id)
        assert account_id is not None
        job = await job_progress.get_job_to_work(connection, account_id, job_id)
        assert job is not None
        return job


async def make_sample_account(pool: asyncpg.Pool, settings: Settings, account: str) -> int:
    """Let everything happen in a new account; gives its id."""
    account_id = await make_account(pool, account)
    await pool.execute(REFUSED_BY_POSTGRES)
    driver = AccountDriver(pool, settings, account)
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
    people = await driver.contacts_of(arrived)
    ann, bob, cid, poison, *staff = people
    eve, fay = people[-2:]

    await driver.run("opt_out", [ann], [1], kind="manual")
    await driver.run("opt_out", staff[:2], [2])
    await driver.run("opt_in", [*people, old, 999_999_999], [1, 2, 3])
    await driver.run("opt_in", [*people], [1])
    await driver.run("opt_out", [fay, eve], [1])
    await driver.run("opt_out", [fay, ann], [1, 2], kind="spam")
    await driver.run("opt_out", [ann, fay, 999_999_999], [1, 3], kind="manual")

    await driver.opt_out_immediately([staff[2], 999_999_999], "email1")
    resumed = await driver.submit("opt_out", [bob, cid, poison, eve, staff[4], old], [1])
    await driver.work(resumed, chunks=1)
    await driver.pause(resumed)
    await driver.resume(resumed)
    await driver.work(resumed)
    cancelled = await driver.submit("opt_out", [*people], [2], kind="list_unsubscribe")
    await driver.work(cancelled, chunks=2)
    await driver.cancel(cancelled)
    never_begun = await driver.submit("opt_in", [eve], [1])
    await driver.cancel(never_begun)
    await driver.run_empty_job()

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
    for number, end in enumerate([driver.cancel, driver.fail]):
        spared = ("left@example.com", "away@example.com")[number]
        rows = [[f"late{number}.{n}@example.com", spared] for n in range(9)]
        cut_short = await driver.submit("import", rows, permission=True)
        # By its rows the address is a role address; with the one that arrives it is none.
        await driver.work(cut_short, chunks=1, chunk_size=2)
        if end == driver.cancel:
            await driver.pause(cut_short)
        await end(cut_short)
    rows = [[f"wait{n}@example.com", "gone@example.com", "info@example.com"] for n in range(9)]
    waiting = await driver.submit("import", rows, permission=True)
    await driver.work(waiting, chunks=1, chunk_size=2)
    await driver.pause(waiting)
    return account_id
