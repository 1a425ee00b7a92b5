"""Adding a bulk action is adding one file: one is dropped in, and a real worker runs it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.code_copy import code_with
from tests.kit.factories import fill, make_account, statuses_of

MARK_UNENGAGED = '''
"""Mark addresses that nobody engaged with."""

from pydantic import Field

from actions.bulk_action import BulkAction, Params
from schemas.decisions import Decision, AddressState, apply, leave, reject
from schemas.statuses import MARKETABLE, Status


class UnengagedParams(Params):
    """`months` without engagement."""

    months: int = Field(ge=1, description="how long nobody engaged")


class MarkUnengaged(BulkAction):
    """Marketable addresses stay so when it was not long."""

    name = "mark_unengaged"
    summary = "Mark addresses as unengaged."
    params = UnengagedParams

    def decide(self, known: AddressState, params: UnengagedParams) -> Decision:
        if known.status == Status.UNENGAGED_NON_MARKETABLE:
            return leave("already_unengaged")
        if known.status not in MARKETABLE:
            return reject("not_marketable")
        if params.months < 6:
            return apply(Status.UNENGAGED_MARKETABLE)
        return apply(Status.UNENGAGED_NON_MARKETABLE)
'''


@pytest.fixture
def code_with_a_third_action(tmp_path: Path) -> Path:
    """A copy of the code with one file more."""
    return code_with("mark_unengaged", MARK_UNENGAGED, tmp_path)


async def test_one_file_adds_an_action(
    pool: asyncpg.Pool,
    settings: Settings,
    start_group: StartGroup,
    code_with_a_third_action: Path,
):
    """The command line offers the new action, a worker runs it, and results, reasons and counts
    are kept as for any other.
    """
    account_id = await make_account(pool, "third")
    await fill(
        pool,
        account_id,
        {1: {1: "a@example.com", 2: "b@example.com"}, 2: {1: "c@example.com"}},
        {
            "a@example.com": ("single_opt_in", False),
            "b@example.com": ("hard_bounce", False),
            "c@example.com": ("unengaged_non_marketable", False),
        },
    )
    start_group(code=code_with_a_third_action)
    command = [
        *(sys.executable, "-m", "cli", "submit", "mark-unengaged", "--all"),
        *("--field", "email1", "--field", "email2", "--account", "third"),
        *("--months", "7", "--wait", "--json"),
    ]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=code_with_a_third_action,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(code_with_a_third_action),
            "DATABASE_URL": settings.database_url,
            "REDIS_URL": settings.redis_url,
            "QUEUE_NAMESPACE": settings.queue_namespace,
            "PGBOUNCER": str(settings.pgbouncer),
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["applied"], job["unchanged"], job["rejected"], job["empty"]) == (1, 1, 1, 1)
    rows = await pool.fetch("select reason from results order by contact_id, field")
    assert [row["reason"] for row in rows] == [None, "not_marketable", "already_unengaged"]
    assert (await statuses_of(pool, account_id))["a@example.com"] == (
        "unengaged_non_marketable",
        False,
    )
