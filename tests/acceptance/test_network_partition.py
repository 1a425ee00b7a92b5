"""Two hosts work on one job, and one of them loses its network. The other host does its chunk. The
first one recovers by itself, and nothing happens twice.
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
from tests.acceptance.test_crash_safety import JobEffects, count_done_chunks, wait_for_end
from tests.kit.factories import fill_large_account, make_account
from tests.kit.folders import server_folder
from tests.kit.servers import grant_process_role
from tests.kit.submitting import EVIDENCE
from tests.kit.two_hosts import Cable, Host, TcpServers, servers_of, two_hosts
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.worker_group import WorkerGroup

CONTACTS = 10_000
GATE = 4711
"""The class of the advisory locks, one per chunk, that hold up the chunks of one host."""

TALKER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    for line in sys.stdin:
        connection.sendall(line.encode())
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """Make two network namespaces that stand for two hosts."""
    with two_hosts() as pair:
        yield pair


@pytest.fixture
async def tcp_servers(hosts: tuple[Host, Host]) -> AsyncIterator[TcpServers]:
    """Run migrated servers on one host, and yield the URLs by which each host reaches them."""
    with server_folder() as folder, servers_of(folder, hosts) as opening:
        tcp_servers = await opening.open()
        await migrate(tcp_servers.here.database_url)
        await grant_process_role(tcp_servers.here.database_url)
        yield tcp_servers


@pytest.fixture
def settings(tcp_servers: TcpServers) -> Settings:
    """Return the settings of processes on the servers' host."""
    return Settings(**tcp_servers.here._asdict())


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool on the servers' host."""
    async with await open_pool(settings.database_url or "", size=5) as pool:
        yield pool


class WorkerHost(NamedTuple):
    """A host with a group of workers whose names begin with `dyno`."""

    host: Host
    dyno: str
    group: WorkerGroup

    def count_events(self, event: str) -> int:
        """Count the log lines of this event."""
        lines = [json.loads(line) for line in self.group.lines() if line.startswith("{")]
        return sum(line["event"] == event for line in lines)

    def is_original_process(self) -> bool:
        """Return whether the process that was started first is still running."""
        return self.group.process.poll() is None and self.count_events("worker.started") == 1


@pytest.fixture
def hosts_with_workers(
    hosts: tuple[Host, Host], tcp_servers: TcpServers, settings: Settings, tmp_path: Path
) -> Iterator[tuple[WorkerHost, WorkerHost]]:
    """Start one worker process on each host."""
    with ExitStack() as stack:
        worker_hosts = []
        for host, dyno in zip(hosts, ("host-a", "host-b"), strict=True):
            group = WorkerGroup(
                settings.model_copy(update=tcp_servers.urls_from(host)._asdict()),
                tmp_path / f"{dyno}.log",
                prefix=host.prefix,
                DYNO=dyno,
                WORKER_PROCESSES="1",
                CHUNK_SIZE="100",
            )
            worker_hosts.append(WorkerHost(host, dyno, stack.enter_context(group)))
        for worker_host in worker_hosts:
            worker_host.group.ready(processes=1)
        yield worker_hosts[0], worker_hosts[1]


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


async def wait_until_working(
    pool: asyncpg.Pool, settings: Settings, worker_host: WorkerHost
) -> None:
    """Wait until the host has done part of a job; submit more jobs if one is over before."""

    async def has_a_part() -> bool:
        job_id = await submit_over_all(pool, settings, "again", "opt_in", "email1")
        await wait_for_end(pool, "again", job_id, deadline=60)
        return bool(await chunks_done_by(pool, job_id, worker_host.dyno))

    await wait_until_async(has_a_part, deadline_seconds=60, what=f"{worker_host.dyno} works again")


def wait_for_outage(worker_host: WorkerHost, server: str) -> None:
    """Wait until a new connection of the host has failed, and it has logged the outage."""
    wait_until(
        lambda: worker_host.count_events(f"{server}.unreachable"),
        deadline_seconds=45,
        what=f"{server} is down",
    )


def wait_for_recovery(worker_host: WorkerHost, server: str) -> None:
    """Wait until the host has logged the recovery; assert that it logged both events once."""
    wait_until(
        lambda: worker_host.count_events(f"{server}.recovered"),
        deadline_seconds=30,
        what=f"{server} is back",
    )
    assert (
        worker_host.count_events(f"{server}.unreachable")
        == worker_host.count_events(f"{server}.recovered")
        == 1
    )


def wait_until_disconnected(cable: Cable) -> None:
    """Wait until the host has closed each connection over this cable."""
    wait_until(
        lambda: not cable.connections(), deadline_seconds=45, what="every connection is closed"
    )


def test_a_pulled_cable_is_silent(hosts: tuple[Host, Host]) -> None:
    """The other test relies on this: packets are dropped, and a connection is neither closed nor
    reset. It continues when the cable is plugged in again.
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
    pool: asyncpg.Pool, settings: Settings, hosts_with_workers: tuple[WorkerHost, WorkerHost]
) -> None:
    """Promise 4: a host loses Postgres in mid-chunk, and the other host does that chunk within 20
    seconds. The host works again once it is back, also after losing Redis. All results equal those
    of an undisturbed run.
    """
    cut_off, other = hosts_with_workers
    for name in ("run_undisturbed", "disturbed"):
        await fill_large_account(pool, await make_account(pool, name), CONTACTS)
    await fill_large_account(pool, await make_account(pool, "again"), 2_000)
    expected = await run_undisturbed(pool, settings)

    job_id, held = await lose_postgres_in_mid_chunk(pool, settings, cut_off)

    async def done_by_the_other() -> bool:
        return held <= await chunks_done_by(pool, job_id, other.dyno)

    await wait_until_async(
        done_by_the_other, deadline_seconds=20, what="the other host has done it"
    )
    first = await wait_for_end(pool, "disturbed", job_id, deadline=30)
    wait_until_disconnected(cut_off.host.to_postgres)
    wait_for_outage(cut_off, "database")
    cut_off.host.to_postgres.plug()
    await wait_until_working(pool, settings, cut_off)
    wait_for_recovery(cut_off, "database")

    job_id = await submit_over_all(pool, settings, "disturbed", "opt_out", "email2")
    await under_way(pool, job_id)
    cut_off.host.to_redis.pull()
    second = await wait_for_end(pool, "disturbed", job_id, deadline=60)
    wait_until_disconnected(cut_off.host.to_redis)
    wait_for_outage(cut_off, "queue")
    cut_off.host.to_redis.plug()
    await wait_until_working(pool, settings, cut_off)
    wait_for_recovery(cut_off, "queue")

    third = await run(pool, settings, "disturbed", "opt_in", "email1", "email2")
    assert [first, second, third] == expected
    assert cut_off.is_original_process()
    assert other.is_original_process()
    assert (
        other.count_events("database.unreachable") == other.count_events("queue.unreachable") == 0
    )


async def run_undisturbed(pool: asyncpg.Pool, settings: Settings) -> list[JobEffects]:
    """Return how the same jobs end in an account that is not disturbed."""
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
) -> JobEffects:
    """Submit a job over all contacts, and wait for its end."""
    job_id = await submit_over_all(pool, settings, account, action, *fields)
    return await wait_for_end(pool, account, job_id, deadline=60)


async def under_way(pool: asyncpg.Pool, job_id: int) -> None:
    """Wait until the job has finished more than four chunks."""

    async def some_chunks() -> bool:
        return await count_done_chunks(pool, job_id) > 4

    await wait_until_async(some_chunks, deadline_seconds=30, what="the job is under way")


async def lose_postgres_in_mid_chunk(
    pool: asyncpg.Pool, settings: Settings, worker_host: WorkerHost
) -> tuple[int, set[int]]:
    """Submit a job, and pull the host's cable while its transactions hold chunks; return the job
    and those chunks.

    Every chunk waits before its last statement until the cable is pulled. That includes chunks of
    the other host, which would otherwise finish the job first. Then Postgres answers, but the host
    that was cut off does not receive it.
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
                worker_host.dyno,
            )
            return {row["chunk_no"] for row in rows}

        held = await wait_until_async(held_up, deadline_seconds=30, what="it holds a chunk")
        worker_host.host.to_postgres.pull()
        await gate.execute("select pg_advisory_unlock_all()")
    assert not held & await chunks_done_by(pool, job_id, worker_host.dyno)
    return job_id, held
