"""The system account of the embedded servers, and its access to their files."""

import os
import pwd
import stat
import subprocess
from pathlib import Path

from runtime.devservers.process import ServerAccount
from schemas.errors import ServerStartError, error_text

ACCOUNT = "sluice-servers"


def choose_server_account(data: Path) -> ServerAccount:
    """Return the caller; for root, who may not run Postgres, an account without privileges.

    A directory that an ordinary user made stays that user's if root uses it later. Raises
    ServerStartError if root has no such account and cannot create it.
    """
    if os.geteuid() != 0:
        return ServerAccount(os.geteuid(), os.getegid())
    if data.exists() and data.stat().st_uid != 0:
        return ServerAccount(data.stat().st_uid, data.stat().st_gid)
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        entry = _create_account()
    return ServerAccount(entry.pw_uid, entry.pw_gid)


def _create_account() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", ACCOUNT]
    try:
        subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace")  # noqa: S603
        return pwd.getpwnam(ACCOUNT)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        detail = getattr(error, "stderr", "") or error
        raise ServerStartError(
            f"Postgres does not run as root, and the account {ACCOUNT} could not be created:"
            f" {error_text(detail)}. Nothing was started. Run this as an ordinary user, or create"
            f" the account with `{' '.join(command)}`, or set DATABASE_URL and REDIS_URL."
        ) from error


def make_owned_directory(directory: Path, owner: ServerAccount) -> None:
    """Make `directory`, for the servers' account alone."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(directory, owner.uid, owner.gid)


def allow_traversal(path: Path, owner: ServerAccount) -> None:
    """Let the account pass through the folders above `path`; they do not become readable."""
    if os.geteuid() != 0 or owner.uid == 0:
        return
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def allow_execution(programs: Path, owner: ServerAccount) -> None:
    """Let the account read and run what was installed at `programs`, whatever root's umask was."""
    if os.geteuid() != 0 or owner.uid == 0 or not programs.exists():
        return
    allow_traversal(programs, owner)
    for path in (programs, *programs.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if wanted != mode:
            path.chmod(wanted)
