"""The embedded servers are shared, and stop when the last user is gone, however it went."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from runtime.devservers.embedded import ServerUrls, embedded_servers
from runtime.devservers.process import command_line, is_alive
from schemas.errors import ServerStartError
from tests.kit.folders import server_folder
from tests.kit.waiting import wait_until

_USER = """
import signal, sys
from pathlib import Path
from runtime.devservers.embedded import embedded_servers
# What a shell starts in the background ignores Ctrl-C, and so does what that starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
with embedded_servers(Path(sys.argv[1]), durable=False) as servers:
    print(servers.database_url, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a folder for servers; assert that none of them is left at the end."""
    with server_folder() as folder:
        yield folder / "servers"
        assert_all_gone(folder)


def processes_of(directory: Path) -> list[psutil.Process]:
    """The servers and the keeper of the directory, those that are only waiting to be reaped not."""
    found = []
    for process in psutil.process_iter():
        command = command_line(process)
        ours = any("postgres" in word or "valkey" in word or "keeper" in word for word in command)
        if ours and any(word.startswith(str(directory)) for word in command):
            found.append(process)
    return found


def assert_all_gone(directory: Path, *, within_seconds: float = 0.5) -> None:
    """The default leaves the kernel a moment between freeing a lock and ending its process."""
    wait_until(
        lambda: not processes_of(directory),
        deadline_seconds=within_seconds,
        what=f"no process of {directory} is left",
    )


def keeper_of(directory: Path) -> psutil.Process:
    """Return the one keeper of the directory's servers."""
    [keeper] = [
        p for p in processes_of(directory) if "runtime.devservers.keeper" in command_line(p)
    ]
    return keeper


@contextmanager
def another_user(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that uses the servers until its standard input ends."""
    command = [sys.executable, "-c", _USER, str(directory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout
        assert user.stdout.readline().startswith("postgresql://")
        yield user


async def answers(servers: ServerUrls) -> bool:
    """Return whether Postgres and Valkey both answer."""
    connection = await asyncpg.connect(servers.database_url)
    one = await connection.fetchval("select 1")
    await connection.close()
    with redis.Redis.from_url(servers.redis_url) as client:
        return bool(one == 1 and client.ping())


def in_use(directory: Path) -> AbstractContextManager[ServerUrls]:
    """Use the directory's servers as a command does; not durable, for speed."""
    return embedded_servers(directory, durable=False)


async def test_users_share_and_the_last_one_stops_them(directory: Path) -> None:
    """Two users get the same servers; they survive the first to leave, and not the second."""
    with in_use(directory) as first:
        with another_user(directory):
            [keeper] = [keeper_of(directory).pid]
            with in_use(directory) as second:
                assert first == second
        assert await answers(first)
        assert keeper_of(directory).pid == keeper
    assert_all_gone(directory)


async def test_nothing_listens_on_the_network(directory: Path) -> None:
    """Both servers are reached by sockets in a folder that only their account may enter."""
    with in_use(directory) as servers:
        assert await answers(servers)
        for process in processes_of(directory):
            assert process.net_connections("tcp") == []
        assert (directory / "sockets").stat().st_mode & 0o077 == 0


def loose(directory: Path) -> list[str]:
    """What other accounts could read, or write, below the directory."""
    return [
        f"{path} {path.stat().st_mode:o}"
        for path in (directory, *directory.rglob("*"))
        if path.lstat().st_mode & 0o066 and not path.is_symlink()
    ]


def test_no_other_account_reads_what_they_write(directory: Path) -> None:
    """Data, logs, sockets and locks, whatever the umask is and however open a log was before."""
    directory.mkdir()
    directory.chmod(0o777)
    log = directory / "valkey.log"
    log.touch()
    log.chmod(0o666)
    before = os.umask(0)
    try:
        with in_use(directory):
            assert loose(directory) == []
            assert {*directory.glob("*.log")} == {
                *(log, directory / "keeper.log", directory / "postgres.log"),
            }
    finally:
        os.umask(before)
    assert loose(directory) == []


async def test_data_outlives_the_servers(directory: Path) -> None:
    """What was committed is there when the servers are started again."""
    for statement in ("create table kept ()", "select from kept"):
        with in_use(directory) as servers:
            connection = await asyncpg.connect(servers.database_url)
            await connection.execute(statement)
            await connection.close()


def test_a_killed_user_counts_as_gone(directory: Path) -> None:
    """After kill -9 of the only user the keeper stops the servers by itself."""
    with another_user(directory) as user:
        assert processes_of(directory)
        user.kill()
        assert_all_gone(directory, within_seconds=15)


@pytest.mark.parametrize("started", ["runtime.devservers.keeper", "valkey", "postgres"])
def test_ctrl_c_while_they_start_leaves_nothing(directory: Path, started: str) -> None:
    """Whoever is interrupted before the servers are ready ends when all of them have ended."""
    command = [sys.executable, "-c", _USER, str(directory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as user:
        wait_until(
            lambda: any(
                started in word
                for process in processes_of(directory)
                for word in command_line(process)
            ),
            deadline_seconds=30,
            what=f"{started} is started",
        )
        user.send_signal(signal.SIGINT)
        user.communicate(timeout=240)
    assert user.returncode == -signal.SIGINT
    assert_all_gone(directory)


async def test_a_killed_keeper_is_replaced_by_the_next_user(directory: Path) -> None:
    """Servers that lost their keeper are taken in hand by whoever comes next."""
    with in_use(directory):
        keeper = keeper_of(directory)
        keeper.kill()
        wait_until(lambda: not is_alive(keeper), deadline_seconds=5, what="keeper is gone")
        with in_use(directory) as servers:
            assert await answers(servers)
    assert_all_gone(directory)


def test_the_last_user_stops_servers_without_a_keeper(directory: Path) -> None:
    """Where the keeper was killed, the last user to leave does its work."""
    with in_use(directory):
        keeper = keeper_of(directory)
        keeper.kill()
        wait_until(lambda: not is_alive(keeper), deadline_seconds=5, what="keeper is gone")
    assert_all_gone(directory)


def _kill(name: str) -> Callable[[psutil.Process], bool]:
    return lambda process: any(name in word for word in command_line(process)[:1])


@pytest.mark.parametrize("name", ["bin/postgres", "valkey-server"])
async def test_a_server_that_dies_is_started_again(directory: Path, name: str) -> None:
    """The keeper starts a killed server again, at the same address."""
    with in_use(directory) as servers:
        [victim] = filter(_kill(name), processes_of(directory))
        victim.kill()
        replaced = wait_until(
            lambda: [p for p in filter(_kill(name), processes_of(directory)) if p != victim],
            deadline_seconds=15,
            what=f"{name} runs again",
        )
        assert replaced
        wait_until_answers(servers)


def wait_until_answers(servers: ServerUrls) -> None:
    """Wait until both servers answer a process of its own."""
    program = (
        "import asyncio, asyncpg, redis, sys\n"
        "asyncio.run(asyncpg.connect(sys.argv[1], timeout=5))\n"
        "redis.Redis.from_url(sys.argv[2]).ping()\n"
    )
    wait_until(
        lambda: (
            subprocess.run(
                [sys.executable, "-c", program, *servers], check=False, capture_output=True
            ).returncode
            == 0
        ),
        deadline_seconds=15,
        what="both servers answer",
    )


async def test_a_power_cut_is_recovered_from(directory: Path) -> None:
    """Everything killed at once, with process ids now used by others: the next start works."""
    with another_user(directory) as user:
        victims = [psutil.Process(user.pid), keeper_of(directory), *processes_of(directory)]
        for victim in victims:
            victim.suspend()
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
        wait_until(
            lambda: not any(map(is_alive, victims)), deadline_seconds=5, what="everything is dead"
        )
    stale = directory / "postgres" / "postmaster.pid"
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join([str(psutil.Process().pid), *lines[1:]]))
    with in_use(directory) as servers:
        assert await answers(servers)


async def test_deep_and_odd_directories_work(directory: Path) -> None:
    """A path too long for a socket, with characters that servers would have to quote."""
    deep = directory / 'it\'s a "folder", $HOME' / ("deep" * 30)
    with in_use(deep) as servers:
        sockets = Path(servers.redis_url.removeprefix("unix://")).parent
        assert len(str(sockets)) < 60
        assert await answers(servers)
    assert not sockets.exists()


def test_a_failed_start_shows_the_log_and_leaves_nothing(directory: Path) -> None:
    """The error has the server's own words and says what to do; no process remains."""
    with in_use(directory):
        pass
    (directory / "postgres" / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(ServerStartError, match=r"(?s)incompatible.*DATABASE_URL"),
        in_use(directory),
    ):
        pass
    assert_all_gone(directory)


def test_an_unusable_directory_is_explained(directory: Path) -> None:
    """A path that cannot be a folder is refused before anything starts."""
    directory.write_text("a file", encoding="utf-8")
    with pytest.raises(ServerStartError, match="cannot use the folder"), in_use(directory):
        pass
