"""Commands work in a locale that is not UTF-8, and an export has the same bytes."""

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
"""If the locale is not installed, as in most containers, Python reads files as in C."""

CONTACTS = """First Name,Last Name,Company,Email,Email Address 2
Łucja,Müller,日本,lucja.müller@exämple.com,
Zoë,Ünal,Ω,zoë@example.com,żółw@example.org
"""
CSV = ["results", "1", "--format", "csv"]


@pytest.fixture
async def environment(pool, settings, monkeypatch) -> dict[str, str]:
    """Return the environment of a command whose database holds names in many scripts."""
    rows = CONTACTS.encode()
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
    """Return the command line. It fails if any code, even a library's, opens text in the encoding
    of the locale.
    """
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    return [sys.executable, *strict, "-m", "cli", *arguments]


@pytest.mark.parametrize(
    ("arguments", "locale"),
    [
        (CSV, C),
        (CSV, GERMAN),
        (["results", "1"], GERMAN),
        (["results", "1", "--json"], C),
        # The argument is in the terminal's encoding; only the output has another one.
        (["address", "żółw@example.org", "--json"], {"PYTHONIOENCODING": "ascii:strict"}),
    ],
)
def test_output_does_not_depend_on_the_locale(environment, arguments, locale):
    """Output to a file or a pipe is UTF-8, with the same bytes in every locale."""
    done = subprocess.run(
        command(arguments), env=environment | locale, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stdout.decode("utf-8") == run_sluice(*arguments).stdout
    assert "żółw".encode() in done.stdout


def test_file_names_are_handled_in_any_locale(environment, tmp_path):
    """A file is imported even if its name is not valid text in this locale. An error message that
    quotes such a name causes no traceback.
    """
    file = "Größe.csv".encode()
    Path(tmp_path, os.fsdecode(file)).write_bytes(CONTACTS.encode())
    for arguments, status, message in (
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
        assert message in done.stdout + done.stderr


def test_a_database_is_migrated_in_any_locale(empty_database_url, servers):
    """Migration files are read as UTF-8 too."""
    urls = {"DATABASE_URL": empty_database_url, "REDIS_URL": servers.redis_url}
    environment = {"PATH": os.environ["PATH"], **urls, **C}
    done = subprocess.run(command(["migrate"]), env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def on_a_terminal(arguments, environment) -> tuple[int, bytes]:
    """Run a command on a terminal; return its exit status and its output."""
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
        # Linux raises this once the other end of the terminal is closed.
        return b""


@pytest.mark.parametrize(
    ("arguments", "locale", "encoding"), [(["results", "1"], C, "ascii"), (CSV, GERMAN, "latin-1")]
)
def test_a_terminal_shows_missing_letters_as_escapes(environment, arguments, locale, encoding):
    """The terminal shows the escaped code, in its own encoding, and no traceback."""
    status, sent = on_a_terminal(arguments, environment | locale)
    assert status == 0, sent
    assert "\\u017c" in sent.decode(encoding)
