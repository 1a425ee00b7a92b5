"""A PgBouncer in transaction mode in front of the tests' Postgres."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from runtime.devservers.account import allow_traversal, choose_server_account, make_owned_directory
from runtime.devservers.process import run_as
from tests.kit.waiting import wait_until

PORT = 6432
"""Part of the socket's name only: PgBouncer does not listen on this port."""

SETTINGS = {
    "listen_port": str(PORT),
    "pool_mode": "transaction",
    "auth_type": "any",
    "default_pool_size": "20",
    "max_client_conn": "200",
    # The default of 15 seconds would delay the connection to a Postgres that is back.
    "server_login_retry": "1",
}


class PgBouncer(NamedTuple):
    """A running PgBouncer: its process, folder and log."""

    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    def url(self, direct: str) -> str:
        """Return the URL that leads through it to the database of the URL `direct`."""
        name = urlsplit(direct).path
        return f"postgresql://postgres@{name}?host={quote(str(self.folder))}&port={PORT}"


def pgbouncer_program() -> str:
    """Return the path of PgBouncer. Skip the test if it is not installed; in CI, fail it."""
    # Debian's folder for it is not on the PATH of ordinary accounts.
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        assert not os.environ.get("CI"), "PgBouncer (Debian package pgbouncer) is not installed"
        pytest.skip("no PgBouncer is installed (Debian package pgbouncer)")
    return program


@contextmanager
def run_pgbouncer(database_url: str, **settings: str) -> Iterator[PgBouncer]:
    """Run a PgBouncer for all databases of the URL's server; `settings` override the tests'
    defaults.
    """
    program = pgbouncer_program()
    with tempfile.TemporaryDirectory(prefix="sluice-pgb-") as parent:
        folder = Path(parent) / "pgbouncer"
        # It refuses to run as root, as does Postgres, whose socket only one account may use.
        owner = choose_server_account(folder)
        make_owned_directory(folder, owner)
        allow_traversal(folder, owner)
        config = folder / "pgbouncer.ini"
        config.write_text(_config(database_url, folder, SETTINGS | settings))
        log = folder / "pgbouncer.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, str(config)], stdout=output, stderr=output, **run_as(owner)
            )
        try:
            bouncer = PgBouncer(process, folder, log)

            def listens() -> bool:
                assert process.poll() is None, log.read_text()
                return (folder / f".s.PGSQL.{PORT}").exists()

            wait_until(listens, deadline_seconds=10, what="PgBouncer listens")
            yield bouncer
        finally:
            process.kill()
            process.wait()


def _config(database_url: str, folder: Path, settings: dict[str, str]) -> str:
    parts = urlsplit(database_url)
    host = parts.hostname or parse_qs(parts.query).get("host", ["127.0.0.1"])[0]
    server = {"host": host, "port": str(parts.port or 5432), "user": unquote(parts.username or "")}
    if parts.password:
        server["password"] = unquote(parts.password)
    connection = " ".join(f"{name}='{value}'" for name, value in server.items())
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    return (
        f"[databases]\n* = {connection}\n[pgbouncer]\nunix_socket_dir = {folder}\n{''.join(lines)}"
    )
