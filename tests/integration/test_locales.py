"""Commands where the locale is not UTF-8: they work, and an export has the same bytes."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.commands import run_sluice
from tests.kit.in_process import InProcessRunner
from tests.kit.submitting import submit_job

C = {"LC_ALL": "C", "PYTHONUTF8": "0"}
GERMAN = {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONIOENCODING": "iso-8859-1"}
"""Where there is no such locale, as in most containers, Python reads files as in C."""

PEOPLE = """First Name,Last Name,Company,Email,Email Address 2
Łucja,Müller,日本,lucja.müller@exämple.com,
Zoë,Ünal,Ω,zoë@example.com,żółw@example.org
"""
CSV = ["results", "1", "--format", "csv"]


@pytest.fixture
async def environment(pool, settings, monkeypatch) -> dict[str, str]:
    """The environment of a command, with a database that has names in many scripts."""
    rows = PEOPLE.encode()
    job = await submit_job(pool, settings, "default", "import", rows, None, {"permission": True})
    await InProcessRunner(pool, settings, chunk_size=5, parallel=1).work(job)
    servers = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "QUEUE_NAMESPACE": settings.queue_namespace,
    }
    for name, value in servers.items():
        monkeypatch.setenv(name, value)
    return servers | {"PATH": os.environ["PATH"]}


def command(arguments: list[str]) -> list[str]:
    """The program, which fails where anything, of a library too, is read as the locale says."""
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    return [sys.executable, *strict, "-m", "cli", *arguments]


@pytest.mark.parametrize(
    ("arguments", "locale"),
    [
        (CSV, C),
        (CSV, GERMAN),
        (["results", "1"], GERMAN),
        (["results", "1", "--json"], C),
        # What is typed comes in the encoding of the terminal, and only the answer in another.
        (["address", "żółw@example.org", "--json"], {"PYTHONIOENCODING": "ascii:strict"}),
    ],
)
def test_what_is_written_does_not_depend_on_the_locale(environment, arguments, locale):
    """Into a file or a pipe: UTF-8, the same bytes wherever it is done."""
    done = subprocess.run(
        command(arguments), env=environment | locale, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stdout.decode("utf-8") == run_sluice(*arguments).stdout
    assert "żółw".encode() in done.stdout


def test_a_file_is_read_and_a_mistake_told_whatever_the_locale(environment, tmp_path):
    """A file whose name is no text in this locale is imported; what repeats such a name to the
    person ends in no traceback.
    """
    file = "Größe.csv".encode()
    Path(tmp_path, os.fsdecode(file)).write_bytes(PEOPLE.encode())
    for arguments, status, said in (
        (["import", "--permission", file], 0, b"is stored: 2 contacts"),
        (["submit", "opt-out", "--all", "--contacts", file + b"\xff"], 2, b"No such file"),
    ):
        done = subprocess.run(
            [os.fsencode(part) for part in command(arguments)],
            env=environment | C,
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr
        assert said in done.stdout + done.stderr


def test_a_database_is_migrated_whatever_the_locale(empty_database_url, servers):
    """Migrations are read as what they are, too."""
    urls = {"DATABASE_URL": empty_database_url, "REDIS_URL": servers.redis_url}
    here = {"PATH": os.environ["PATH"], **urls, **C}
    done = subprocess.run(command(["migrate"]), env=here, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def on_a_terminal(arguments, environment) -> tuple[int, bytes]:
    """The exit status of a command whose output goes to a terminal, and what that was sent."""
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        command(arguments), env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    sent = b""
    while part := _read(screen):
        sent += part
    os.close(screen)
    return process.wait(), sent


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 65536)
    except OSError:
        # What Linux says once nobody has the other end any more.
        return b""


@pytest.mark.parametrize(
    ("arguments", "locale", "encoding"), [(["results", "1"], C, "ascii"), (CSV, GERMAN, "latin-1")]
)
def test_a_terminal_that_cannot_show_a_letter_shows_its_code(
    environment, arguments, locale, encoding
):
    """In its own encoding, and without a traceback."""
    status, sent = on_a_terminal(arguments, environment | locale)
    assert status == 0, sent
    assert "\\u017c" in sent.decode(encoding)
