"""A new bulk action is one file: `sluice new-action` writes it, and everything else follows."""

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
from tests.kit.code_copy import copy_checkout
from tests.kit.factories import fill, make_account, statuses_of

NAME = "mark_dormant"
ACTION = f"actions/{NAME}.py"
TEST = f"tests/unit/test_{NAME}.py"


def run_python(code: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the copied code."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=code,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(code), **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def python(code: Path, *words: str, **environment: str) -> str:
    """Run a module of the copied code; return its output."""
    done = run_python(code, *words, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout and run `sluice new-action` in it."""
    code = copy_checkout(tmp_path_factory.mktemp("new-action") / "code")
    output = python(code, "cli", "new-action", NAME.replace("_", "-"))
    assert f"  {ACTION}  " in output
    assert f"  {TEST}  " in output
    return code


def test_the_new_action_passes_its_test_and_those_of_every_action(code: Path):
    """No other file has to be edited first: neither a table nor a page nor a list of actions."""
    unit = [f"tests/unit/test_{name}.py" for name in ("documents", "transitions", "cli_parsing")]
    options = ("-q", "-x", "-p", "no:cacheprovider", "--hypothesis-profile=dev")
    python(code, "pytest", *options, TEST, *unit)


def test_the_new_files_follow_the_style_of_the_project(code: Path):
    """The new files pass every rule of ruff and its format check. `make types` checks the types of
    the template, which differs only in names.
    """
    python(code, "ruff", "check", "--no-cache", ACTION, TEST)
    python(code, "ruff", "format", "--no-cache", "--check", ACTION, TEST)


async def test_a_worker_runs_the_new_action(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup, code: Path
):
    """The command line offers the action with its parameters, and a worker runs it. Results,
    reasons and counts are stored as for any other action.
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
    start_group(code=code)
    answer = await asyncio.to_thread(
        python,
        code,
        *("cli", "submit", "mark-dormant", "--all", "--field", "email1", "--field", "email2"),
        *("--account", "third", "--note", "silent since May", "--wait", "--json"),
        DATABASE_URL=settings.database_url or "",
        REDIS_URL=settings.redis_url or "",
        QUEUE_NAMESPACE=settings.queue_namespace,
        PGBOUNCER=str(settings.pgbouncer),
    )
    job = json.loads(answer)
    outcomes = ("applied", "unchanged", "rejected", "empty")
    assert [job["counts"][outcome] for outcome in outcomes] == [1, 1, 1, 1]
    rows = await pool.fetch("select reason from results order by contact_id, field")
    assert [row["reason"] for row in rows] == [None, "hard_bounced", "already_unengaged"]
    assert (await statuses_of(pool, account_id))["a@example.com"] == (
        "unengaged_non_marketable",
        False,
    )


def test_a_required_parameter_without_a_value_is_named(tmp_path: Path):
    """After an action with a required parameter, `new-action` says what `VARIANTS` lacks."""
    code = copy_checkout(tmp_path / "code")
    python(code, "cli", "new-action", NAME)
    action = code / ACTION
    optional = "note: str | None = Field(None, "
    assert optional in action.read_text()
    action.write_text(action.read_text().replace(optional, "note: str = Field("))
    failed = run_python(code, "cli", "new-action", "mark_second")
    assert failed.returncode == 1
    assert (
        f"The action {NAME} has the required parameter note, and VARIANTS in"
        " tests/kit/documents.py needs a value for it. The action and its test were kept."
    ) in failed.stderr
    assert "pydantic" not in failed.stderr
    documents = code / "tests" / "kit" / "documents.py"
    wrong = documents.read_text().replace(
        "VARIANTS: dict[str, Variants] = {",
        f'VARIANTS: dict[str, Variants] = {{"{NAME}": (("", {{"note": 7}}),),',
    )
    documents.write_text(wrong)
    failed = run_python(code, "tests.kit.documents")
    assert "gives for note: Give text (given: 7)." in failed.stderr
