"""The embedded servers are shared, and stop after their last user has ended in any way."""

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
# A background process of a shell ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
with embedded_servers(Path(sys.argv[1]), durable=False) as servers:
    print(servers.database_url, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a folder for servers; require that no server process is left at the end."""
    with server_folder() as folder:
        yield folder / "servers"
        wait_until_stopped(folder)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Return the servers and the keeper of the directory, without zombie processes."""
    processes = []
    for process in psutil.process_iter():
        command = command_line(process)
        is_server = any(
            "postgres" in word or "valkey" in word or "keeper" in word for word in command
        )
        if is_server and any(word.startswith(str(directory)) for word in command):
            processes.append(process)
    return processes


def wait_until_stopped(directory: Path, *, within_seconds: float = 0.5) -> None:
    """Wait until no process is left.

    The default allows for the moment in which the kernel frees a lock before it ends the process.
    """
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
def run_user(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that uses the servers until its standard input ends."""
    command = [sys.executable, "-c", _USER, str(directory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout
        assert user.stdout.readline().startswith("postgresql://")
        yield user


async def is_answering(servers: ServerUrls) -> bool:
    """Return whether Postgres and Valkey both answer."""
    connection = await asyncpg.connect(servers.database_url)
    value = await connection.fetchval("select 1")
    await connection.close()
    with redis.Redis.from_url(servers.redis_url) as client:
        return bool(value == 1 and client.ping())


def use_servers(directory: Path) -> AbstractContextManager[ServerUrls]:
    """Use the directory's servers as a command does, without durability for speed."""
    return embedded_servers(directory, durable=False)


async def test_users_share_servers_until_the_last_one_leaves(directory: Path) -> None:
    """Two users get the same servers, which run until the second user leaves."""
    with use_servers(directory) as first:
        with run_user(directory):
            [keeper] = [keeper_of(directory).pid]
            with use_servers(directory) as second:
                assert first == second
        assert await is_answering(first)
        assert keeper_of(directory).pid == keeper
    wait_until_stopped(directory)


async def test_nothing_listens_on_the_network(directory: Path) -> None:
    """Both servers use Unix sockets in a folder that only their own user can enter."""
    with use_servers(directory) as servers:
        assert await is_answering(servers)
        for process in processes_of(directory):
            assert process.net_connections("tcp") == []
        assert (directory / "sockets").stat().st_mode & 0o077 == 0


def readable_by_others(directory: Path) -> list[str]:
    """Return the paths below the directory that other users could read or write."""
    return [
        f"{path} {path.stat().st_mode:o}"
        for path in (directory, *directory.rglob("*"))
        if path.lstat().st_mode & 0o066 and not path.is_symlink()
    ]


def test_files_are_private_to_the_user(directory: Path) -> None:
    """Data, logs, sockets and locks are private, whatever the umask and a log's earlier mode."""
    directory.mkdir()
    directory.chmod(0o777)
    log = directory / "valkey.log"
    log.touch()
    log.chmod(0o666)
    before = os.umask(0)
    try:
        with use_servers(directory):
            assert readable_by_others(directory) == []
            assert {*directory.glob("*.log")} == {
                *(log, directory / "keeper.log", directory / "postgres.log"),
            }
    finally:
        os.umask(before)
    assert readable_by_others(directory) == []


async def test_data_outlives_the_servers(directory: Path) -> None:
    """Committed data is there when the servers are started again."""
    for statement in ("create table kept ()", "select from kept"):
        with use_servers(directory) as servers:
            connection = await asyncpg.connect(servers.database_url)
            await connection.execute(statement)
            await connection.close()


def test_servers_stop_after_their_user_is_killed(directory: Path) -> None:
    """After kill -9 of the only user, the keeper stops the servers."""
    with run_user(directory) as user:
        assert processes_of(directory)
        user.kill()
        wait_until_stopped(directory, within_seconds=15)


@pytest.mark.parametrize("started", ["runtime.devservers.keeper", "valkey", "postgres"])
def test_ctrl_c_during_the_start_leaves_no_process(directory: Path, started: str) -> None:
    """A user interrupted during the start ends after all servers have ended."""
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
    wait_until_stopped(directory)


async def test_a_killed_keeper_is_replaced_by_the_next_user(directory: Path) -> None:
    """The next user starts a new keeper for servers whose keeper was killed."""
    with use_servers(directory):
        keeper = keeper_of(directory)
        keeper.kill()
        wait_until(lambda: not is_alive(keeper), deadline_seconds=5, what="keeper is gone")
        with use_servers(directory) as servers:
            assert await is_answering(servers)
    wait_until_stopped(directory)


def test_the_last_user_stops_servers_without_a_keeper(directory: Path) -> None:
    """If the keeper was killed, the last user to leave stops the servers."""
    with use_servers(directory):
        keeper = keeper_of(directory)
        keeper.kill()
        wait_until(lambda: not is_alive(keeper), deadline_seconds=5, what="keeper is gone")
    wait_until_stopped(directory)


def _is_process(name: str) -> Callable[[psutil.Process], bool]:
    return lambda process: any(name in word for word in command_line(process)[:1])


@pytest.mark.parametrize("name", ["bin/postgres", "valkey-server"])
async def test_a_server_that_dies_is_started_again(directory: Path, name: str) -> None:
    """The keeper starts a killed server again, at the same address."""
    with use_servers(directory) as servers:
        [victim] = filter(_is_process(name), processes_of(directory))
        victim.kill()
        replaced = wait_until(
            lambda: [p for p in filter(_is_process(name), processes_of(directory)) if p != victim],
            deadline_seconds=15,
            what=f"{name} runs again",
        )
        assert replaced
        wait_until_answers(servers)


def wait_until_answers(servers: ServerUrls) -> None:
    """Wait until both servers answer a separate process."""
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


async def test_servers_start_after_a_power_cut(directory: Path) -> None:
    """After all processes were killed and their ids reused, the next start succeeds."""
    with run_user(directory) as user:
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
    with use_servers(directory) as servers:
        assert await is_answering(servers)


async def test_long_and_unusual_paths_work(directory: Path) -> None:
    """A path that is too long for a socket, or has characters that need quoting, works."""
    deep = directory / 'it\'s a "folder", $HOME' / ("deep" * 30)
    with use_servers(deep) as servers:
        sockets = Path(servers.redis_url.removeprefix("unix://")).parent
        assert len(str(sockets)) < 60
        assert await is_answering(servers)
    assert not sockets.exists()


def test_a_failed_start_shows_the_log_and_leaves_no_process(directory: Path) -> None:
    """The error shows the server's log and says what to do, and no process is left."""
    with use_servers(directory):
        pass
    (directory / "postgres" / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(ServerStartError, match=r"(?s)incompatible.*DATABASE_URL"),
        use_servers(directory),
    ):
        pass
    wait_until_stopped(directory)


def test_an_unusable_directory_is_explained(directory: Path) -> None:
    """A path that cannot be a folder is rejected before anything is started."""
    directory.write_text("a file", encoding="utf-8")
    with pytest.raises(ServerStartError, match="cannot use the folder"), use_servers(directory):
        pass
