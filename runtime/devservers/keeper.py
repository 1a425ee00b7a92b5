"""The keeper: a small process that owns the embedded servers of one directory.

It starts them, restarts one that died, and stops both when the last user has ended.
Run it as `python -m runtime.devservers.keeper DIRECTORY [--not-durable]`. The command returns as
soon as the keeper holds its lock in the background.
"""

import fcntl
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Self

from runtime.devservers.account import allow_traversal, choose_server_account, make_owned_directory
from runtime.devservers.directory import ServerDirectory, ServerUrls, open_lock_file, try_lock
from runtime.devservers.postgres import postgres_process, postgres_url, start_postgres
from runtime.devservers.process import ServerAccount
from runtime.devservers.valkey import start_valkey, valkey_process, valkey_url
from runtime.private_files import open_private, write_private
from schemas.errors import ServerStartError

_POLL_SECONDS = 0.5


def stop_servers(directory: ServerDirectory) -> None:
    """Stop the servers that run in the directory, no matter which process started them."""
    directory.unpublish_servers()
    sockets = directory.sockets()
    postgres_process(directory.postgres(sockets)).stop()
    valkey_process(directory.valkey(sockets)).stop()
    directory.remove_sockets()


def _keep_servers_running(directory: ServerDirectory, *, durable: bool) -> None:
    """Keep both servers running until the last user has left, or until SIGTERM."""
    with open_lock_file(directory.users_lock) as users, _Termination() as termination:
        try:
            stop_servers(directory)
            owner = choose_server_account(directory.root / "postgres")
            _start_missing_servers(directory, owner, durable=durable)
            directory.publish_servers(_urls(directory))
            while not try_lock(users, fcntl.LOCK_EX) and not termination.wait(_POLL_SECONDS):
                _start_missing_servers(directory, owner, durable=durable)
        except ServerStartError as error:
            _write_failure(directory, str(error))
        except Exception:
            _write_failure(
                directory,
                "The keeper of the embedded servers failed and stopped them. Your data was kept."
                f" The error:\n{traceback.format_exc()}",
            )
            raise
        finally:
            stop_servers(directory)


def _write_failure(directory: ServerDirectory, text: str) -> None:
    write_private(directory.failure, text)


def _start_missing_servers(
    directory: ServerDirectory, owner: ServerAccount, *, durable: bool
) -> None:
    sockets = directory.sockets()
    make_owned_directory(sockets, owner)
    allow_traversal(sockets, owner)
    allow_traversal(directory.postgres(sockets).data, owner)
    start_valkey(directory.valkey(sockets), owner)
    start_postgres(directory.postgres(sockets), owner, durable=durable)


def _urls(directory: ServerDirectory) -> ServerUrls:
    sockets = directory.sockets()
    return ServerUrls(postgres_url(sockets), valkey_url(sockets))


class _Termination:
    """Wait for SIGTERM or SIGINT."""

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float) -> bool:
        return bool(select.select([self._reader], [], [], seconds)[0])


def _go_to_background(log: Path) -> bool:
    """Split off a process of its own session; True in that one."""
    if os.fork():
        return False
    os.setsid()
    os.chdir("/")
    # All files that are created from here on are for this account alone.
    os.umask(0o077)
    with open(log, "ab", opener=open_private) as output, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    return True


def main(directory: ServerDirectory, *, durable: bool) -> None:
    """Become the keeper of `directory`, unless it has one."""
    with open_lock_file(directory.keeper_lock) as lock:
        if not try_lock(lock, fcntl.LOCK_EX):
            return
        # These are left from a keeper that was killed.
        directory.unpublish_servers()
        directory.failure.unlink(missing_ok=True)
        if not _go_to_background(directory.keeper_log):
            return
        _keep_servers_running(directory, durable=durable)
        # Exit immediately: once the lock is free, the last user expects that no process is left.
        os._exit(0)


if __name__ == "__main__":
    main(ServerDirectory(Path(sys.argv[1])), durable="--not-durable" not in sys.argv)
