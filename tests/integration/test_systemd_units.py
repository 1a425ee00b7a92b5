"""What `docs/running/without-a-platform.md` tells people to run does what it says."""

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


def parsed(text: str) -> ConfigParser:
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
    """As they stand, but for the name; the role needs no more rights than it is given."""
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
    name = f"sluice_{uuid4().hex[:12]}"
    statements = re.sub(r"\bsluice\b", name, block).split(";")
    try:
        for statement in filter(str.strip, statements):
            await superuser.execute(statement)
        url = re.sub(r"//postgres@/postgres", f"//{name}@/{name}", servers.database_url)
        assert name in url
        await migrate(url)
        mine = await asyncpg.connect(url)
        assert await mine.fetchval("select current_user") == name
        assert await mine.fetchval("select count(*) from accounts") == 1
        await mine.close()
    finally:
        await superuser.execute(f"drop database if exists {name} with (force)")
        await superuser.execute(f"drop role if exists {name}")


def test_the_units_run_what_the_procfile_runs():
    """Each of its processes has a unit, started again whenever it ends; the release runs once."""
    assert set(UNITS) == {"sluice-release.service", "sluice-worker@.service", "sluice-web.service"}
    procfile = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    for name, _, command in (line.partition(": ") for line in procfile):
        (unit,) = [parsed(text) for file, text in UNITS.items() if f"-{name}" in file]
        assert unit["Service"]["ExecStart"].endswith(f"/opt/sluice/.venv/bin/{command}")
        assert unit["Service"]["EnvironmentFile"] == "/etc/sluice.env"
        assert unit["Service"]["User"] == "sluice"
        if name != "release":
            assert unit["Service"]["Restart"] == "always"
            assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_settings_of_the_units_are_settings():
    """What a unit sets before its command has a name that is read."""
    for text in UNITS.values():
        given = re.findall(r"\b([A-Z][A-Z_]+)=\S+ ", parsed(text)["Service"]["ExecStart"])
        assert {name.lower() for name in given} <= set(Settings.model_fields)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_takes_the_units(tmp_path):
    """Without a word about them; paths and the account are those of this machine."""
    for name, text in UNITS.items():
        here = text.replace("/opt/sluice/.venv/bin/python", sys.executable)
        here = here.replace("/opt/sluice", str(ROOT)).replace("User=sluice", "User=root")
        (tmp_path / name.replace("@", "@1")).write_text(here, encoding="utf-8")
    files = [str(path) for path in tmp_path.iterdir()]
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    ours = [line for line in result.stderr.splitlines() if str(tmp_path) in line]
    assert ours == [], result.stderr
