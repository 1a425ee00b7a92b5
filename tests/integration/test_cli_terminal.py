"""Output on terminals of 100 and 60 columns, on a full disk and into a closed pipe."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.kit.commands import run_sluice
from tests.kit.terminal import SLUICE, run_in_terminal

ROOT = Path(__file__).parents[2]
ADDRESS = "maria.fernandez-lopez@mail.department.company.example"
LONG = "first.middle.last-name+news@marketing.department.very-long-company.example"
SOURCE = "office@department.company.example"
TAG = "customers-of-the-spring-and-summer-campaign-" * 4
NOTE = "unsubscribed in the old system, and told so by telephone " * 6
ACCOUNT = "an-account-with-quite-a-long-name-of-a-customer"
REQUESTED_BY = "A Person With A Long Name <a.person.with.a.long.name@marketing.company.example>"
WIDTHS = [100, 60]


@pytest.fixture(autouse=True)
def command_environment(monkeypatch, settings):
    """Point the commands at the test's own database and queue through the environment."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("QUEUE_NAMESPACE", settings.queue_namespace)
    monkeypatch.setenv("SIGNING_KEYS", settings.signing_keys.get_secret_value())
    monkeypatch.chdir(ROOT)


@pytest.fixture
async def job(pool):
    """Store a large completed job with long addresses, names, tag and note; return its id."""
    account = await pool.fetchval("insert into accounts (name) values ($1) returning id", ACCOUNT)
    await pool.execute(
        "insert into contacts (account_id, id, given_name, family_name, company)"
        " values ($1, 1, 'Maria Fernanda', 'von und zu Fernandez-Lopez', $2)",
        account,
        "A company with a rather long name and partners, Ltd.",
    )
    await pool.executemany(
        "insert into email_addresses (account_id, id, address, match_key, status, contact_count)"
        " values ($1, $2, $3, $3, 'admin', 1)",
        [(account, number, text) for number, text in enumerate((ADDRESS, LONG, SOURCE), 1)],
    )
    await pool.executemany(
        "insert into contact_emails values ($1, 1, $2, $3)", [(account, n, n) for n in (1, 2, 3)]
    )
    job = await pool.fetchval(
        "insert into jobs (account_id, action, state, params, selection, fields, requested_by,"
        " request_hash, correlation_id, selected, applied, planned_at, started_at, finished_at,"
        " actor_kind, actor_id, via)"
        " values ($1, 'opt_out', 'completed', jsonb_build_object('note', $2::text),"
        " jsonb_build_object('tag', $3::text), '{1,2}', $4, '', 'c', 10000000, 10000000,"
        " now(), now(), now(), 'hook', 9007199254740993, 'hook_events') returning id",
        account,
        NOTE,
        TAG,
        REQUESTED_BY,
    )
    await pool.execute(
        "insert into activity (account_id, actor_kind, actor_id, via, event, job_id,"
        " correlation_id)"
        " select account_id, actor_kind, actor_id, via, 'job.submitted', id, repeat('c', 200)"
        " from jobs where id = $1",
        job,
    )
    await pool.execute(
        "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, state,"
        " applied)"
        " values ((select account_id from jobs where id = $1), $1, 1, '{1}', 10000000, 'done',"
        " 10000000)",
        job,
    )
    await pool.executemany(
        "insert into results (account_id, job_id, chunk_no, item_id, contact_id, field,"
        " address_id,"
        " outcome, from_status, to_status, cause, source_address_id)"
        " values ((select account_id from jobs where id = $1), $1, 1, 1, 1, $2, $3, 'applied',"
        " 'non_marketable', 'admin', $4, $5)",
        [(job, 1, 1, "direct", None), (job, 2, 2, "propagated", 3)],
    )
    return job


COMMANDS = {
    "jobs": [],
    "job JOB": [],
    "results JOB": [ADDRESS, LONG, SOURCE],
    f"address {LONG} --account {ACCOUNT}": [LONG, SOURCE],
    "keys list": [],
    "hooks list": [],
    "signing-keys": [],
    "accounts": [],
    "activity": [],
    "activity --job JOB": [],
    "verify": [],
}
"""Commands that show tables or facts, and the addresses that each must show."""


def words(command, job):
    """Return the arguments of a command, with JOB replaced by the job's id."""
    return command.replace("JOB", str(job)).split()


def require_fit(lines, columns, addresses):
    """Require that each line fits the terminal, and that each address is shown whole. An address
    longer than a line must continue at the margin of the next line.
    """
    text = "\n".join(lines)
    assert all(cell_len(line) <= columns for line in lines), text
    # The label of a progress bar may be shortened.
    assert not any("…" in line and "━" not in line for line in lines), text
    for address in addresses:
        if len(address) <= columns:
            assert address in text
        assert address in text.replace("\n", "")


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_output_fits_and_no_address_is_cut(monkeypatch, job, columns, command):
    """Tables and lists of facts fit despite long names, tags, notes and addresses."""
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = run_sluice(*words(command, job)).stdout
    assert shown.strip()
    require_fit(shown.split("\n"), columns, COMMANDS[command])


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("command", ["results JOB", "job JOB --watch"])
def test_output_fits_a_real_terminal(job, columns, command):
    """The output, with its progress bar, also fits the width that a real terminal reports."""
    shown = run_in_terminal(*words(command, job), columns=columns)
    require_fit(shown.lines, columns, COMMANDS.get(command, ()))


def test_the_counts_of_jobs_are_adjacent(monkeypatch, job):
    """The counts have the same order as everywhere. `requested_by` and the actor follow, and are
    the first to be left out.
    """
    monkeypatch.setenv("COLUMNS", "400")
    heading, *_ = run_sluice("jobs").stdout.split("\n")
    counts = ["selected", "applied", "unchanged", "rejected", "empty", "propagated"]
    before, after = ["job", "created", "action", "state"], ["requested", "by", "actor"]
    assert heading.split() == [*before, *counts, *after]


@pytest.mark.parametrize("columns", WIDTHS)
def test_jobs_are_one_line_each_with_their_age_and_state(monkeypatch, job, columns):
    """Each job has one line; the columns without room are named below."""
    monkeypatch.setenv("COLUMNS", str(columns))
    heading, row, *more = run_sluice("jobs").output.split("\n")
    assert heading.split()[:4] == ["job", "created", "action", "state"]
    assert row.split()[:6] == [str(job), *row.split()[1:4], "opt_out", "completed"]
    assert " s ago" in row or " min ago" in row
    assert "10,000,000" in row
    assert "Not shown here: " in " ".join(more)


def test_jobs_are_narrowed_by_several_states(monkeypatch, job):
    """`--state` can be repeated, and the suggested next command keeps it."""
    monkeypatch.setenv("COLUMNS", "100")
    shown = run_sluice("jobs", "--state", "failed", "--state", "completed").stdout
    assert shown.split("\n")[1].startswith(str(job))
    shown = run_sluice("jobs", "--state", "completed", "--limit", "1").output
    assert f"jobs --before {job} --state completed`" in shown
    assert "There are no such jobs." in run_sluice("jobs", "--state", "paused").output
    refused = run_in_terminal("jobs", "--state", "odd", columns=60)
    assert refused.status == 2
    assert all(cell_len(line) <= 60 for line in refused.lines)


def test_colour_is_for_terminals(job):
    """A terminal gets a bold heading and a red error; a pipe gets plain text."""
    assert "\x1b[1m" in run_in_terminal("jobs", columns=100).raw
    assert "\x1b[31m" in run_in_terminal("job", str(job + 1), columns=100).raw
    for arguments in (["jobs"], ["job", str(job + 1)]):
        done = subprocess.run([*SLUICE, *arguments], capture_output=True, check=False)
        assert b"\x1b" not in done.stdout + done.stderr


def test_a_suggested_command_can_be_copied(job):
    """A suggested command is printed in one line and works as printed."""
    shown = run_in_terminal("jobs", "--limit", "1", columns=60)
    (line,) = [line for line in shown.lines if "--before" in line]
    command = line.split("`")[1]
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full exists on Linux only")
@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs"],
        ["results", "1", "--format", "csv"],
        ["migrate"],
        ["verify"],
        ["--help"],
    ],
)
def test_a_full_disk_is_reported(job, arguments):
    """Each command exits with status 1 and says that its answer could not be written."""
    arguments = [str(job) if word == "1" else word for word in arguments]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [*SLUICE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "The answer could not be written: No space left" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "again" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["results", "1", "--format", "csv"]])
def test_a_closed_pipe_is_no_failure(job, arguments):
    """As with `| head -1`, the command exits with status 0 and writes no error."""
    arguments = [str(job) if word == "1" else word for word in arguments]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as closed:
        done = subprocess.run(
            [*SLUICE, *arguments], stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_exit_status_survives_an_unread_pipe(job):
    """Schedulers get the exit status of `verify` even if its output is not read."""
    assert job
    command = f"{' '.join(SLUICE)} verify | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 1


def test_a_closed_stdout_or_stderr_is_no_failure(job):
    """With `>&-` or `2>/dev/full` the command succeeds as usual."""
    for redirection in (">&-", "2>&-", "2>/dev/full"):
        command = f"{' '.join(SLUICE)} job {job} {redirection}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def run_in_shell(command):
    """Run `sluice` with arguments and redirections as a shell reads them."""
    return subprocess.run(
        f"{' '.join(SLUICE)} {command}", shell=True, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "command",
    [
        "submit opt-out --contacts - --field email1",
        "submit opt-out --addresses -",
        "submit opt-in --all --evidence -",
        "import - --no-permission",
    ],
)
async def test_a_closed_stdin_is_an_error_in_words(pool, command):
    """With `<&-` a command that reads `-` says so and ends with status 2."""
    done = await asyncio.to_thread(run_in_shell, f"{command} <&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Standard input is closed. Nothing was stored.")
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_a_question_is_not_asked_with_a_closed_stdin(pool, tmp_path):
    """With `<&-` a list of unknown addresses needs --yes, as it does without a terminal."""
    await pool.execute("insert into accounts (name) values ('third')")
    unknown = tmp_path / "list.txt"
    unknown.write_text("".join(f"person{n}@example.com\n" for n in range(300)))
    command = f"submit opt-out --account third --addresses {unknown} <&-"
    done = await asyncio.to_thread(run_in_shell, command)
    assert done.returncode == 2
    assert done.stderr.endswith("If they are, give --yes.\n")


@pytest.mark.parametrize("json_output", ["", " --json"])
async def test_no_secret_is_created_that_nobody_sees(pool, json_output):
    """With `>&-` a command that shows a secret once fails before it creates or replaces it."""
    created = await asyncio.to_thread(run_in_shell, "hooks create --source keap --json")
    hook = json.loads(created.stdout)["id"]
    before = await pool.fetch("select * from hooks"), await pool.fetch("select * from api_keys")
    for command in ("keys create shop", "hooks create --source shop", f"hooks renew {hook}"):
        done = await asyncio.to_thread(run_in_shell, f"{command}{json_output} >&-")
        assert done.returncode == 2
        assert "Standard output is closed" in done.stderr
        assert "Traceback" not in done.stderr
    after = await pool.fetch("select * from hooks"), await pool.fetch("select * from api_keys")
    assert after == before


def test_an_export_is_utf8_whatever_the_locale(job, pool):
    """An export with any names succeeds, whatever the encoding of the terminal."""
    # The SQL files are read in UTF-8 mode; the output encoding has its own setting.
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*SLUICE, "results", str(job)], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "non_marketable → admin" in done.stdout.decode()
