"""The keeper: a small process that owns the embedded servers of one directory.

It starts them, starts again what died, and stops both when the last user has left, however the
users ended. Run as `python -m runtime.devservers.keeper DIRECTORY [--not-durable]`; the command
returns as soon as the keeper, in the background, holds its lock.
"""

import fcntl
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Self

from runtime.devservers.account import let_reach, own, owner_of_servers
from runtime.devservers.directory import ServerDirectory, Servers, open_lock, take
from runtime.devservers.postgres import postgres_process, postgres_url, start_postgres
from runtime.devservers.process import Owner
from runtime.devservers.valkey import start_valkey, valkey_process, valkey_url
from runtime.private_files import private, write_private
from schemas.errors import ServerStartFailed

_POLL_SECONDS = 0.5


def stop_servers(directory: ServerDirectory) -> None:
    """Stop whatever servers run in the directory, whoever started them."""
    directory.withdraw()
    sockets = directory.sockets()
    postgres_process(directory.postgres(sockets)).stop()
    valkey_process(directory.valkey(sockets)).stop()
    directory.forget_sockets()


def _keep(directory: ServerDirectory, *, durable: bool) -> None:
    """Until nobody is left, or SIGTERM: see that both servers run."""
    with open_lock(directory.users_lock) as users, _Termination() as termination:
        try:
            stop_servers(directory)
            owner = owner_of_servers(directory.root / "postgres")
            _start_what_does_not_run(directory, owner, durable=durable)
            directory.publish(_urls(directory))
            while not take(users, fcntl.LOCK_EX) and not termination.comes_within(_POLL_SECONDS):
                _start_what_does_not_run(directory, owner, durable=durable)
        except ServerStartFailed as error:
            _tell_failure(directory, str(error))
        except Exception:
            _tell_failure(
                directory,
                "The keeper of the embedded servers failed, and stopped them. Your data was kept."
                f" What it met:\n{traceback.format_exc()}",
            )
            raise
        finally:
            stop_servers(directory)


def _tell_failure(directory: ServerDirectory, text: str) -> None:
    write_private(directory.failure, text)


def _start_what_does_not_run(directory: ServerDirectory, owner: Owner, *, durable: bool) -> None:
    sockets = directory.sockets()
    own(sockets, owner)
    let_reach(sockets, owner)
    let_reach(directory.postgres(sockets).data, owner)
    start_valkey(directory.valkey(sockets), owner)
    start_postgres(directory.postgres(sockets), owner, durable=durable)


def _urls(directory: ServerDirectory) -> Servers:
    sockets = directory.sockets()
    return Servers(postgres_url(sockets), valkey_url(sockets))


class _Termination:
    """Whether the process was asked to end, by SIGTERM or SIGINT."""

    def __enter__(self) -> Self:
        self._heard, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        signal.set_wakeup_fd(self._bell)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._heard)
        os.close(self._bell)

    def comes_within(self, seconds: float) -> bool:
        return bool(select.select([self._heard], [], [], seconds)[0])


def _go_to_background(log: Path) -> bool:
    """Split off a process of its own session; True in that one."""
    if os.fork():
        return False
    os.setsid()
    os.chdir("/")
    # The servers' logs, and whatever else is made from here on, are for this account alone.
    os.umask(0o077)
    with open(log, "ab", opener=private) as output, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    return True


def main(directory: ServerDirectory, *, durable: bool) -> None:
    """Become the keeper of `directory`, unless it has one."""
    with open_lock(directory.keeper_lock) as lock:
        if not take(lock, fcntl.LOCK_EX):
            return
        # Left over from a keeper that was killed; nobody may take them for this one's.
        directory.withdraw()
        directory.failure.unlink(missing_ok=True)
        if not _go_to_background(directory.keeper_log):
            return
        _keep(directory, durable=durable)
        # At once: when the lock is free, the last user says that no process was left behind.
        os._exit(0)


if __name__ == "__main__":
    main(ServerDirectory(Path(sys.argv[1])), durable="--not-durable" not in sys.argv)
