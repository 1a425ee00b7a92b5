"""The units and statements in `docs/running/without-a-platform.md` do what the page says."""

import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from configparser import ConfigParser
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from db.migrate import migrate
from runtime.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "running" / "without-a-platform.md").read_text(encoding="utf-8")
UNITS = {
    Path(name).name: text
    for name, text in re.findall(r"```ini\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL)
}


def parse_unit(text: str) -> ConfigParser:
    """Parse a systemd unit."""
    unit = ConfigParser(delimiters=("=",), strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    return unit


@pytest.fixture
async def superuser(servers) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the server as a superuser."""
    connection = await asyncpg.connect(servers.database_url)
    yield connection
    await connection.close()


async def test_the_statements_make_a_database_that_migrates(servers, superuser):
    """The statements run as shown, apart from the name. They give the role every right that
    migrating needs.
    """
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
    name = f"sluice_{uuid4().hex[:12]}"
    statements = re.sub(r"\bsluice\b", name, block).split(";")
    try:
        for statement in filter(str.strip, statements):
            await superuser.execute(statement)
        url = re.sub(r"//postgres@/postgres", f"//{name}@/{name}", servers.database_url)
        assert name in url
        await migrate(url)
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select current_user") == name
        assert await connection.fetchval("select count(*) from accounts") == 1
        await connection.close()
    finally:
        await superuser.execute(f"drop database if exists {name} with (force)")
        await superuser.execute(f"drop role if exists {name}")


def test_the_units_run_what_the_procfile_runs():
    """Each Procfile process has a unit that is restarted whenever it ends. The release runs only
    once.
    """
    assert set(UNITS) == {"sluice-release.service", "sluice-worker@.service", "sluice-web.service"}
    procfile = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    for name, _, command in (line.partition(": ") for line in procfile):
        (unit,) = [parse_unit(text) for file, text in UNITS.items() if f"-{name}" in file]
        assert unit["Service"]["ExecStart"].endswith(f"/opt/sluice/.venv/bin/{command}")
        assert unit["Service"]["EnvironmentFile"] == "/etc/sluice.env"
        assert unit["Service"]["User"] == "sluice"
        if name != "release":
            assert unit["Service"]["Restart"] == "always"
            assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_settings_of_the_units_are_settings():
    """Each variable that a unit sets on its command line is a setting."""
    for text in UNITS.values():
        names = re.findall(r"\b([A-Z][A-Z_]+)=\S+ ", parse_unit(text)["Service"]["ExecStart"])
        assert {name.lower() for name in names} <= set(Settings.model_fields)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_accepts_the_units(tmp_path):
    """`systemd-analyze` accepts the units, with the paths and the user of this machine."""
    for name, text in UNITS.items():
        local_text = text.replace("/opt/sluice/.venv/bin/python", sys.executable)
        local_text = local_text.replace("/opt/sluice", str(ROOT)).replace(
            "User=sluice", "User=root"
        )
        (tmp_path / name.replace("@", "@1")).write_text(local_text, encoding="utf-8")
    files = [str(path) for path in tmp_path.iterdir()]
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    ours = [line for line in result.stderr.splitlines() if str(tmp_path) in line]
    assert ours == [], result.stderr
