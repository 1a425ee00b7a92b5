"""Two hosts at one job, and one of them loses its network: its chunk is done by the other, it
comes back by itself, and nothing happens twice.
"""

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from db.migrate import migrate
from db.pool import open_pool
from producers.submit import submit
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.acceptance.test_crash_safety import Ended, done_chunks, ended
from tests.kit.factories import fill_large_account, make_account
from tests.kit.folders import server_folder
from tests.kit.servers import grant_process_role
from tests.kit.submitting import EVIDENCE
from tests.kit.two_hosts import Cable, Host, TcpServers, servers_of, two_hosts
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.worker_group import WorkerGroup

CONTACTS = 10_000
GATE = 4711
"""The class of the advisory locks, one per chunk, at which a chunk of one host is held up."""

TALKER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    for line in sys.stdin:
        connection.sendall(line.encode())
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """Make two network namespaces that stand for two hosts."""
    with two_hosts() as made:
        yield made


@pytest.fixture
async def reached(hosts: tuple[Host, Host]) -> AsyncIterator[TcpServers]:
    """Run migrated servers on one host, and yield how each host reaches them by TCP."""
    with server_folder() as folder, servers_of(folder, hosts) as opening:
        reached = await opening.open()
        await migrate(reached.here.database_url)
        await grant_process_role(reached.here.database_url)
        yield reached


@pytest.fixture
def settings(reached: TcpServers) -> Settings:
    """Return the settings of processes on the servers' host."""
    return Settings(**reached.here._asdict())


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool on the servers' host."""
    async with await open_pool(settings.database_url or "", size=5) as pool:
        yield pool


class OnHost(NamedTuple):
    """A host with a group of workers on it; its workers' names begin with `dyno`."""

    host: Host
    dyno: str
    group: WorkerGroup

    def said(self, event: str) -> int:
        """How many lines of its log are of the event."""
        lines = [json.loads(line) for line in self.group.lines() if line.startswith("{")]
        return sum(line["event"] == event for line in lines)

    def lives_on(self) -> bool:
        """Whether it is the process that was started at first."""
        return self.group.process.poll() is None and self.said("worker.started") == 1


@pytest.fixture
def staffed(
    hosts: tuple[Host, Host], reached: TcpServers, settings: Settings, tmp_path: Path
) -> Iterator[tuple[OnHost, OnHost]]:
    """One worker process on each host."""
    with ExitStack() as stack:
        made = []
        for host, dyno in zip(hosts, ("host-a", "host-b"), strict=True):
            group = WorkerGroup(
                settings.model_copy(update=reached.urls_from(host)._asdict()),
                tmp_path / f"{dyno}.log",
                prefix=host.prefix,
                DYNO=dyno,
                WORKER_PROCESSES="1",
                CHUNK_SIZE="100",
            )
            made.append(OnHost(host, dyno, stack.enter_context(group)))
        for staff in made:
            staff.group.ready(processes=1)
        yield made[0], made[1]


async def submit_over_all(
    pool: asyncpg.Pool, settings: Settings, account: str, action: str, *fields: str
) -> int:
    """Submit a job over all contacts of the account, and return its id."""
    request = JobRequest(
        account=account,
        action=action,
        selection=Selection(all=True),
        fields=fields,
        evidence=EVIDENCE if action == "opt_in" else None,
        requested_by="test",
    )
    return (await submit(pool, settings, request)).job_id


async def chunks_done_by(pool: asyncpg.Pool, job_id: int, dyno: str) -> set[int]:
    """Return the numbers of the chunks that this dyno's processes finished."""
    rows = await pool.fetch(
        "select chunk_no from job_chunks"
        " where job_id = $1 and state = 'done' and starts_with(worker, $2 || '.')",
        job_id,
        dyno,
    )
    return {row["chunk_no"] for row in rows}


async def works_again(pool: asyncpg.Pool, settings: Settings, staff: OnHost) -> None:
    """Wait until the host has a part in a job; a small one may be over before it comes."""

    async def has_a_part() -> bool:
        job_id = await submit_over_all(pool, settings, "again", "opt_in", "email1")
        await ended(pool, "again", job_id, deadline=60)
        return bool(await chunks_done_by(pool, job_id, staff.dyno))

    await wait_until_async(has_a_part, deadline_seconds=60, what=f"{staff.dyno} works again")


def has_noticed(staff: OnHost, server: str) -> None:
    """Wait until the host has said that the server is away, by a new connection that failed."""
    wait_until(
        lambda: staff.said(f"{server}.unreachable"), deadline_seconds=45, what=f"{server} is away"
    )


def said_once(staff: OnHost, server: str) -> None:
    """Wait until the host has said that the server is back; that, and that it was away, once."""
    wait_until(
        lambda: staff.said(f"{server}.recovered"), deadline_seconds=30, what=f"{server} is back"
    )
    assert staff.said(f"{server}.unreachable") == staff.said(f"{server}.recovered") == 1


def no_connection_is_left(cable: Cable) -> None:
    """Wait until the host has given up each connection that it had over the cable."""
    wait_until(
        lambda: not cable.connections(), deadline_seconds=45, what="every connection is given up"
    )


def test_a_pulled_cable_is_silent(hosts: tuple[Host, Host]) -> None:
    """What the other test is about: packets vanish, a connection is neither ended nor refused, and
    it goes on as it was when the cable is plugged again.
    """
    host = hosts[0]
    with (
        socket.create_server((host.to_postgres.address, 0)) as listening,
        subprocess.Popen(
            [
                *host.prefix,
                *(sys.executable, "-c", TALKER),
                *map(str, listening.getsockname()),
            ],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as talker,
    ):
        assert talker.stdin
        listening.settimeout(20)
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(20)
            talker.stdin.write("before\n")
            assert connection.recv(100) == b"before\n"
            host.to_postgres.pull()
            talker.stdin.write("meanwhile\n")
            connection.settimeout(1)
            with pytest.raises(TimeoutError):
                connection.recv(100)
            assert host.to_postgres.connections()
            host.to_postgres.plug()
            connection.settimeout(20)
            assert connection.recv(100) == b"meanwhile\n"
            talker.stdin.close()
            assert connection.recv(100) == b""


async def test_a_host_is_cut_off_and_comes_back(
    pool: asyncpg.Pool, settings: Settings, staffed: tuple[OnHost, OnHost]
) -> None:
    """Promise 4: a chunk of a host that lost Postgres in the middle of it is done by the other
    host within 20 seconds; the host works again when it is back, after the loss of Redis as well;
    and all ends as it would have run_undisturbed.
    """
    cut_off, other = staffed
    for name in ("run_undisturbed", "disturbed"):
        await fill_large_account(pool, await make_account(pool, name), CONTACTS)
    await fill_large_account(pool, await make_account(pool, "again"), 2_000)
    calm = await run_undisturbed(pool, settings)

    job_id, held = await lose_postgres_in_mid_chunk(pool, settings, cut_off)

    async def done_by_the_other() -> bool:
        return held <= await chunks_done_by(pool, job_id, other.dyno)

    await wait_until_async(done_by_the_other, deadline_seconds=20, what="the other has done it")
    first = await ended(pool, "disturbed", job_id, deadline=30)
    no_connection_is_left(cut_off.host.to_postgres)
    has_noticed(cut_off, "database")
    cut_off.host.to_postgres.plug()
    await works_again(pool, settings, cut_off)
    said_once(cut_off, "database")

    job_id = await submit_over_all(pool, settings, "disturbed", "opt_out", "email2")
    await under_way(pool, job_id)
    cut_off.host.to_redis.pull()
    second = await ended(pool, "disturbed", job_id, deadline=60)
    no_connection_is_left(cut_off.host.to_redis)
    has_noticed(cut_off, "queue")
    cut_off.host.to_redis.plug()
    await works_again(pool, settings, cut_off)
    said_once(cut_off, "queue")

    third = await run(pool, settings, "disturbed", "opt_in", "email1", "email2")
    assert [first, second, third] == calm
    assert cut_off.lives_on()
    assert other.lives_on()
    assert other.said("database.unreachable") == other.said("queue.unreachable") == 0


async def run_undisturbed(pool: asyncpg.Pool, settings: Settings) -> list[Ended]:
    """How the jobs end on the twin."""
    return [
        await run(pool, settings, "run_undisturbed", action, *fields)
        for action, *fields in (
            ("opt_out", "email1"),
            ("opt_out", "email2"),
            ("opt_in", "email1", "email2"),
        )
    ]


async def run(
    pool: asyncpg.Pool, settings: Settings, account: str, action: str, *fields: str
) -> Ended:
    """Submit a job over all contacts, and wait for its end."""
    job_id = await submit_over_all(pool, settings, account, action, *fields)
    return await ended(pool, account, job_id, deadline=60)


async def under_way(pool: asyncpg.Pool, job_id: int) -> None:
    """Wait until the job has finished more than four chunks."""

    async def some_chunks() -> bool:
        return await done_chunks(pool, job_id) > 4

    await wait_until_async(some_chunks, deadline_seconds=30, what="the job is under way")


async def lose_postgres_in_mid_chunk(
    pool: asyncpg.Pool, settings: Settings, staff: OnHost
) -> tuple[int, set[int]]:
    """Submit a job, and pull the host's cable while transactions of its own hold chunks; gives the
    job, and which chunks.

    All chunks are held up at their last statement until the cable is pulled, those of the other
    host too, which would otherwise have done the job before. Then Postgres answers, to the one
    that was cut off into the void.
    """
    async with pool.acquire() as gate:
        await gate.execute(f"select pg_advisory_lock({GATE}, n) from generate_series(1, 200) n")
        await gate.execute(
            "create function wait_at_gate() returns trigger language plpgsql as $$ begin"
            f" perform pg_advisory_xact_lock_shared({GATE}, new.chunk_no); return new; end $$"
        )
        await gate.execute(
            "create trigger gate before update of state on job_chunks for each row"
            " execute function wait_at_gate()"
        )
        job_id = await submit_over_all(pool, settings, "disturbed", "opt_out", "email1")

        async def held_up() -> set[int]:
            rows = await gate.fetch(
                "select l.objid::int as chunk_no from pg_locks l"
                " join pg_stat_activity a using (pid)"
                " where l.classid = $1 and not l.granted and a.xact_start is not null"
                " and starts_with(a.application_name, $2 || '.')",
                GATE,
                staff.dyno,
            )
            return {row["chunk_no"] for row in rows}

        held = await wait_until_async(held_up, deadline_seconds=30, what="it holds a chunk")
        staff.host.to_postgres.pull()
        await gate.execute("select pg_advisory_unlock_all()")
    assert not held & await chunks_done_by(pool, job_id, staff.dyno)
    return job_id, held
