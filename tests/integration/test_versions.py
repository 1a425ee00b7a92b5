"""The version of a process, and the versions of the database schema that it accepts."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from cli.table_owner import migrate_database
from db.migrate import known_revisions, latest_revision, migrate, oldest_supported, require_current
from db.pool import connect_options
from runtime.settings import Settings
from runtime.shared_setting import warn_if_different
from runtime.version import commit, version
from schemas.errors import SchemaMismatch
from tests.kit.code_copy import copy_code
from tests.kit.commands import run_sluice

AHEAD = "9998"
"""A revision that this version does not know."""


def newer_code(folder: Path, *, suits: bool) -> Path:
    """Return a copy of the code with one more migration."""
    code = copy_code(folder / "code")
    versions = code / "db" / "migrations" / "versions"
    (versions / f"{AHEAD}_pre_ahead.py").write_text(
        '"""A newer version."""\n\nfrom db.migrations import run_sql\n\n'
        f'revision = "{AHEAD}"\ndown_revision = "{latest_revision()}"\n'
        f"supports_older_code = {suits}\n\n\n"
        "def upgrade() -> None:\n    run_sql(__file__)\n"
    )
    (versions / f"{AHEAD}_pre_ahead.sql").write_text("create table ahead (id int);\n")
    return code


async def run(code: Path, settings: Settings, *words: str, **variables: str):
    """Run a module of this code on the servers of the test."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(code),
        "DATABASE_URL": settings.database_url or "",
        "REDIS_URL": settings.redis_url or "",
        "QUEUE_NAMESPACE": settings.queue_namespace,
        **variables,
    }
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", *words],
        cwd=code,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("suits", [True, False])
async def test_a_newer_database_is_used_where_it_suits(http, pool, settings, tmp_path, suits):
    """A newer version has migrated the database. If its migration suits older code, older processes
    are ready and may start, and their `sluice migrate` changes nothing. Otherwise each of them
    reports it.
    """
    migrated = await run(newer_code(tmp_path, suits=suits), settings, "cli", "migrate")
    assert migrated.returncode == 0, migrated.stderr
    line = next(json.loads(text) for text in migrated.stderr.splitlines() if "migrated" in text)
    assert (line["event"], line["before"], line["after"]) == (
        "database.migrated",
        latest_revision(),
        AHEAD,
    )
    assert line["version"] == version()
    assert (await http.get("/readyz")).status_code == (200 if suits else 503)
    assert (await http.get("/healthz")).json()["revision"] == latest_revision()
    async with pool.acquire() as connection:
        if suits:
            await require_current(connection)
            assert await migrate(settings.database_url or "") == (AHEAD, AHEAD)
        else:
            with pytest.raises(SchemaMismatch, match=f"{AHEAD} by a newer Sluice"):
                await require_current(connection)
            with pytest.raises(SchemaMismatch, match="does not suit"):
                await migrate(settings.database_url or "")
    if suits:
        return
    started = await run(Path(__file__).parents[2], settings, "workers", LOG_FORMAT="json")
    refused = json.loads(started.stdout.splitlines()[-1])
    assert (started.returncode, refused["event"]) == (1, "process.start_failed")
    assert (refused["process"], refused["error"]) == ("worker", "SchemaMismatch")
    assert refused["message"] in started.stderr
    assert "@" not in started.stdout


async def test_a_wrong_setting_is_an_event_in_the_chosen_format(settings, tmp_path):
    """Workers, web and release log the process, the exit status and a message without the value."""
    root = Path(__file__).parents[2]
    for process, words in (
        ("worker", ["workers"]),
        ("web", ["web"]),
        ("release", ["cli", "migrate"]),
    ):
        done = await run(root, settings, *words, CHUNK_SIZE="hunter2", LOG_FORMAT="logfmt")
        output = done.stdout + done.stderr
        assert done.returncode == 1
        assert f"event=process.start_failed process={process} error=SettingsError" in output
        assert "exit_status=1" in output
        assert "hunter2" not in output


def test_each_migration_says_whether_it_supports_older_code():
    """The database records the oldest revision after which every migration suits older code."""
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    from db.migrate import _MIGRATIONS  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    supports_older_code = [script.module.supports_older_code for script in scripts.walk_revisions()]
    assert all(isinstance(each, bool) for each in supports_older_code)
    oldest = oldest_supported(scripts, latest_revision())
    assert oldest in known_revisions()
    assert all(supports_older_code[: supports_older_code.index(False)])
    assert oldest == known_revisions()[-1 - supports_older_code.index(False)]


async def test_a_limit_that_differs_is_logged(settings, monkeypatch):
    """`sluice migrate` stores the first limit, and replaces it only by one that was set explicitly.
    A process with a different limit logs both.
    """

    async def read_stored_limit() -> int | None:
        options = connect_options(settings.database_url or "", pgbouncer=False)
        connection = await asyncpg.connect(**options)
        try:
            return await connection.fetchval("select role_address_limit from deployment")
        finally:
            await connection.close()

    def settings_with_limit(**limit) -> Settings:
        urls = {"database_url": settings.database_url, "redis_url": settings.redis_url}
        return Settings(**urls, **limit)

    monkeypatch.delenv("ROLE_ADDRESS_LIMIT", raising=False)
    assert await read_stored_limit() is None
    for limit, expected, expected_events in (
        ({}, 10, ["setting.changed"]),
        ({}, 10, []),
        ({"role_address_limit": 25}, 25, ["setting.changed"]),
        ({}, 25, ["setting.differs"]),
    ):
        with capture_logs() as lines:
            await migrate_database(settings_with_limit(**limit))
        assert await read_stored_limit() == expected
        assert [line["event"] for line in lines] == expected_events
    with capture_logs() as lines:
        warn_if_different(settings_with_limit(), 25)
    [line] = lines
    assert (line["own_value"], line["stored_value"]) == ("10", "25")
    assert "sluice migrate" in line["remedy"]


def test_the_command_line_shows_the_version(monkeypatch):
    """The version is shown with the commit that the platform names, or that of the checkout."""
    monkeypatch.setenv("SOURCE_VERSION", "0123abc")
    assert run_sluice("--version").stdout == f"sluice {version()} (commit 0123abc)\n"
    monkeypatch.setenv("COMMIT", "4567def")
    assert commit(Settings()) == "4567def"
    monkeypatch.setenv("COMMIT", "not a commit")
    assert Settings().commit is None
