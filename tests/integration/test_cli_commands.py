"""The commands against a real Postgres and a real Redis: answers, exit statuses, JSON and CSV."""

import asyncio
import csv
import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import asyncpg
import pytest

from cli import progress as cli_waiting
from db.pool import connect_options, open_pool
from engine.planner import forecast_job, plan_job
from schemas.job_key import JobKey
from tests.kit.commands import run_sluice
from tests.kit.factories import DEFAULT_ACCOUNT

ROWS = 3_000
FILES = Path(__file__).parents[1] / "files"


@pytest.fixture(autouse=True)
def command_environment(monkeypatch, settings, tmp_path):
    """Point the commands at the test's own database and queue through the environment."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("QUEUE_NAMESPACE", settings.queue_namespace)
    monkeypatch.chdir(tmp_path)


def sluice(*arguments, stdin=None, status=0):
    """Run the command, require its exit status, and return its result."""
    result = run_sluice(*arguments, stdin=stdin)
    assert result.exit_code == status, result.output
    return result


def answer(*arguments, stdin=None):
    """Run the command with `--json`, and return its parsed answer."""
    return json.loads(sluice(*arguments, "--json", stdin=stdin).stdout)


@pytest.fixture
def sql(database_url):
    """Return a function that runs a statement and returns its rows."""

    def run(statement, *arguments):
        async def execute():
            connection = await asyncpg.connect(**connect_options(database_url, pgbouncer=False))
            try:
                return await connection.fetch(statement, *arguments)
            finally:
                await connection.close()

        return asyncio.run(execute())

    return run


@pytest.fixture
def account_id(sql):
    """Create two contacts who share an address in the default account; return the account."""
    account = sql("select id from accounts")[0][0]
    for contact, name in ((1, "Ann"), (2, "Bob")):
        sql(
            "insert into contacts (account_id, id, given_name) values ($1, $2, $3)",
            account,
            contact,
            name,
        )
    for number, text, status in (
        (1, "Ann@x.example", "non_marketable"),
        (2, "both@x.example", "manual"),
    ):
        sql(
            "insert into email_addresses (account_id, id, address, match_key, status,"
            " contact_count)"
            " values ($1, $2, $3, lower($3), $4, 1)",
            account,
            number,
            text,
            status,
        )
    for contact, field, number in ((1, 1, 1), (1, 2, 2), (2, 1, 2)):
        sql("insert into contact_emails values ($1, $2, $3, $4)", account, contact, field, number)
    return account


def finish(sql, job, *, rows=ROWS):
    """Store a done chunk with results and complete the job, as workers do."""
    sql(
        "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, state,"
        " applied,"
        " rejected, reasons) values ((select account_id from jobs where id = $1), $1, 1, '{}',"
        " $2::int, 'done', $2::int - 1, 1,"
        " '{\"rejected:bounced\": 1}')",
        job,
        rows,
    )
    sql(
        "insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id,"
        " outcome, reason, from_status, to_status)"
        " select (select account_id from jobs where id = $1), $1, 1, n, n, 1, n,"
        " (case when n = 1 then 'rejected' else 'applied' end)::result_outcome,"
        " case when n = 1 then 'bounced' end, 'non_marketable',"
        " case when n > 1 then 'admin'::email_status end from generate_series(1, $2::int) n",
        job,
        rows,
    )
    sql(
        "update jobs set state = 'completed', selected = $2::int, applied = $2::int - 1,"
        " rejected = 1, planned_at = now(), started_at = now(), finished_at = now() where id = $1",
        job,
        rows,
    )


def test_a_submitted_job_is_shown_listed_and_controlled():
    """From submission to cancellation, each command answers with the job's state."""
    job = answer("submit", "opt-out", "--all", "--note", "spring", "--key", "k")["job_id"]
    again = answer("submit", "opt-out", "--all", "--note", "spring", "--key", "k")
    assert (again["job_id"], again["created"]) == (job, False)
    refused = sluice("submit", "opt-out", "--all", "--key", "k", status=2)
    assert "is of a different request" in refused.stderr
    shown = answer("job", str(job))
    assert (shown["state"], shown["params"]["note"], shown["selection"]) == (
        "planning",
        "spring",
        {"all": True},
    )
    assert [listed["id"] for listed in answer("jobs")] == [job]
    assert answer("jobs", "--before", str(job)) == []
    for command, state in (("pause", "paused"), ("resume", "planning"), ("cancel", "cancelled")):
        assert answer(command, str(job)) == {"job_id": job, "state": state}
        assert f"Job {job} is {state}" in sluice(command, str(job)).stdout
    assert "is cancelled and cannot be paused" in sluice("pause", str(job), status=2).stderr
    assert "no job 999" in sluice("job", "999", status=2).stderr


def test_contacts_and_evidence_come_from_files_or_standard_input(tmp_path, sql):
    """A list may be piped in, and the evidence is stored with the job as submitted."""
    evidence = {
        "source": "customer_relationship",
        "description": "They bought from the shop and agreed at the till.",
        "collected_from": "2020-01-01",
        "collected_until": "2020-12-31",
        "attested_by": "the shop's manager",
    }
    (tmp_path / "evidence.json").write_text(json.dumps(evidence))
    job = answer(
        *("submit", "opt-in", "--contacts", "-", "--evidence", "evidence.json"),
        *("--field", "email1", "--field", "email2", "--requested-by", "Eve"),
        stdin="\ufeff3,1\n2\n3\n",
    )["job_id"]
    shown = answer("job", str(job))
    assert (shown["evidence"], shown["fields"], shown["requested_by"]) == (
        evidence,
        ["email1", "email2"],
        "Eve",
    )
    rows = sql("select contact_ids from job_contacts where job_id = $1", job)
    assert [list(row[0]) for row in rows] == [[1, 2, 3]]
    assert "customer_relationship" in sluice("job", str(job)).stdout


def test_evidence_is_read_in_the_given_encoding(sql):
    """Evidence in cp1252 is rejected unless `--encoding` says so, and no replacement character is
    stored.
    """
    evidence = str(FILES / "evidence-cp1252.json")
    submit = ("submit", "opt-in", "--all", "--evidence", evidence)
    assert "is not text in utf-8" in sluice(*submit, status=2).stderr
    job = answer(*submit, "--encoding", "cp1252")["job_id"]
    assert answer("job", str(job))["evidence"]["attested_by"] == "Jörg"
    assert len(sql("select id from jobs")) == 1


@pytest.mark.parametrize(
    "content", ['"1,234"\n', "1,234", "1\n42.0\n", "1e3", "+5", "", "\n,\n", "id\n"]
)
def test_a_list_of_ids_with_other_content_is_rejected(sql, content):
    """The list is rejected with an error message, as over HTTP, and nothing is stored."""
    message = sluice("submit", "opt-out", "--contacts", "-", stdin=content, status=2).stderr
    assert "Nothing was stored" in " ".join(message.split())
    assert sql("select id from jobs") == []


def test_a_list_of_mostly_unknown_addresses_needs_confirmation(tmp_path, sql, account_id):
    """Without a terminal, a list of mostly unknown addresses is rejected unless `--yes` confirms
    it. A list with half of them known needs no confirmation.
    """
    (tmp_path / "list.csv").write_text("Email\nann@x.example\nzoe@x.example\nyan@x.example\n")
    submit = ("submit", "opt-out", "--addresses", "list.csv")
    message = " ".join(sluice(*submit, status=2).stderr.split())
    assert "2 of the 3 addresses in the list are new" in message
    assert "--yes" in message
    assert sql("select id from jobs") == []
    job = answer(*submit, "--yes")["job_id"]
    assert answer("job", str(job))["unknown"] == 2
    assert "did not know 2 of" in sluice(*submit, "--yes").stdout
    assert "unknown addresses" in sluice("job", str(job)).stdout
    (tmp_path / "known.csv").write_text("Email\nann@x.example\nzoe@x.example\n")
    assert answer("submit", "opt-out", "--addresses", "known.csv")["created"]


@pytest.mark.parametrize(("reply", "status", "jobs"), [("y\n", 0, 1), ("n\n", 2, 0), ("\n", 2, 0)])
def test_at_a_terminal_the_user_is_asked(tmp_path, sql, account_id, reply, status, jobs):
    """Only the answer "y" submits the list."""
    (tmp_path / "list.csv").write_text("Email\nzoe@x.example\n")
    controller_fd, terminal_fd = pty.openpty()
    command = (
        sys.executable,
        "-m",
        "cli",
        "submit",
        "opt-out",
        "--addresses",
        "list.csv",
    )
    with (
        os.fdopen(controller_fd, "wb", buffering=0) as terminal,
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=terminal_fd,
            stderr=terminal_fd,
            stdout=subprocess.DEVNULL,
        ) as process,
    ):
        os.close(terminal_fd)
        terminal.write(reply.encode())
        assert process.wait(60) == status
    assert len(sql("select id from jobs")) == jobs


def test_an_opt_in_without_evidence_is_asked_for_it(sql):
    """The error lists the questions, in JSON as fields and prompts, and nothing is stored."""
    assert "attested_by" in sluice("submit", "opt-in", "--all", status=2).stderr
    error = json.loads(sluice("submit", "opt-in", "--all", "--json", status=2).stderr)["error"]
    assert {prompt["field"] for prompt in error["prompts"]} >= {"source", "attested_by"}
    assert sql("select count(*) from jobs")[0][0] == 0


def test_results_are_written_as_table_csv_and_json_lines(sql):
    """All formats have the same rows; the table stops early and says so."""
    job = str(answer("submit", "opt-out", "--all")["job_id"])
    assert "There are no such results" in sluice("results", job).stdout
    finish(sql, int(job))
    lines = [json.loads(line) for line in sluice("results", job, "--json").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(sluice("results", job, "--format", "csv").stdout)))
    assert len(lines) == len(rows) == ROWS
    assert [str(line["contact_id"]) for line in lines] == [row["contact_id"] for row in rows]
    assert set(rows[0]) <= set(lines[0])
    assert (rows[0]["outcome"], rows[0]["reason"], rows[0]["field"]) == (
        "rejected",
        "bounced",
        "email1",
    )
    table = sluice("results", job)
    assert "bounced" in table.stdout
    assert "the first 50" in table.stderr
    rejected = sluice("results", job, "--outcome", "rejected", "--json").stdout
    assert [json.loads(line)["contact_id"] for line in rejected.splitlines()] == [1]
    assert sluice("results", job, "--reason", "odd", "--json").stdout == ""
    assert len(sluice("results", job, "--format", "csv", "--limit", "5").stdout.splitlines()) == 6
    assert (
        list(csv.DictReader(io.StringIO(sluice("results", job, "--format", "csv", "--raw").stdout)))
        == rows
    )
    refused = sluice("results", job, "--raw", status=2)
    assert "--raw is about CSV. Nothing was read." in refused.stderr
    shown = sluice("job", job).stdout
    assert "soft-bounced too often" in shown
    assert f"all {ROWS:,} selected pairs" in shown


def test_unprocessed_contacts_of_a_cancelled_job_are_listed(sql):
    """The contacts of unprocessed chunks are listed, one id a line."""
    job = answer("submit", "opt-out", "--all")["job_id"]
    listing = ("results", str(job), "--outcome", "unprocessed", "--format", "csv")
    assert "not selected yet" in sluice(*listing).stderr
    sql(
        "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs)"
        " select account_id, id, c.* from jobs,"
        " (values (1, '{4,5}'::bigint[], 2), (2, '{6}', 1)) c where id = $1",
        job,
    )
    sql("update jobs set state = 'running', selected = 3, planned_at = now() where id = $1", job)
    sluice("cancel", str(job))
    assert sluice(*listing).stdout.split() == ["contact_id", "4", "5", "6"]
    assert "did not" not in sluice("job", str(job)).stderr
    assert "unprocessed" in sluice("job", str(job)).stdout


def test_unprocessed_rows_of_a_cancelled_import_are_listed(sql, tmp_path):
    """An import lists the lines whose rows became no contact. Their contact ids belong to no
    contact.
    """
    (tmp_path / "list.csv").write_text("Email\na@example.com\nnot an address\nb@example.com\n")
    job = answer("import", str(tmp_path / "list.csv"), "--no-permission")["job_id"]
    sluice("cancel", str(job))
    listing = ("results", str(job), "--outcome", "unprocessed", "--format", "csv")
    assert sluice(*listing).stdout.split() == ["line", "2", "4"]


def test_rejected_rows_of_an_import_are_listed(sql, account_id):
    """Each rejected row is listed with line, reason and detail, and the job counts them."""
    job = sql(
        "insert into jobs (account_id, action, state, fields, selection, requested_by,"
        " request_hash, correlation_id, selected, planned_at, finished_at) values ($1, 'import',"
        " 'completed', '{1,2,3}', '{}', 'Eve', '', '', 0, now(), now()) returning id",
        account_id,
    )[0][0]
    sql("insert into import_rejections values (1, $1, 2, 'no_address', 'no address at all')", job)
    listed = sluice("results", str(job), "--outcome", "import_rejections", "--json").stdout
    assert json.loads(listed) == {"line": 2, "reason": "no_address", "detail": "no address at all"}
    assert answer("job", str(job))["import_rejections"] == {"no_address": 1}
    assert "it creates no contact" in sluice("job", str(job)).stdout


def test_a_file_is_imported_once_per_key(tmp_path):
    """The answer counts contacts and rejections, and the same key returns the same job."""
    (tmp_path / "list.csv").write_text("Work mail,Name\nann@x.example,Ann\nnonsense,Bob\n")
    arguments = ("import", "list.csv", "--permission", "--map", "Work mail=email1", "--key", "k")
    first = answer(*arguments)
    assert first == {
        "job_id": first["job_id"],
        "created": True,
        "rows": 1,
        "rejected_rows": 1,
        "rejected_cells": 1,
        "enqueued": True,
        "ignored_columns": ["Name"],
    }
    assert answer(*arguments) == {**first, "created": False}
    piped = ("import", "-", "--permission", "--map", "Work mail=email1", "--key", "k")
    assert answer(*piped, stdin=(tmp_path / "list.csv").read_text())["job_id"] == first["job_id"]
    shown = " ".join(sluice(*arguments).stdout.split())
    assert 'not read: "Name"' in shown
    assert "before with this key: 1 contact, 1 row rejected, 1 cell left out" in shown
    assert "cannot be read" in sluice("import", "none.csv", "--permission", status=2).stderr


def test_an_address_is_shown_with_its_history(sql, account_id):
    """An address is shown with its status, contacts and history, whatever the letter case."""
    job = answer("submit", "opt-out", "--all", "--requested-by", "Eve")["job_id"]
    sql(
        "insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id,"
        " outcome, reason, from_status) values (1, $1, 1, 2, 2, 1, 2, 'unchanged',"
        " 'already_opted_out', 'manual')",
        job,
    )
    shown = sluice("address", "BOTH@x.example").stdout
    for part in ("both@x.example  manual", "2 contacts", "Bob", "already_opted_out", "Eve"):
        assert part in shown
    described = answer("address", "both@x.example")
    assert described["status"] == "manual"
    assert [(c["contact_id"], c["field"]) for c in described["contacts"]] == [
        (1, "email2"),
        (2, "email1"),
    ]
    assert [c["job_id"] for c in described["history"]] == [job]
    assert "does not know" in sluice("address", "new@x.example", status=2).stderr
    assert "no account" in sluice("address", "a@x.example", "--account", "b", status=2).stderr


def test_accounts_are_listed_and_added():
    """A new account can be used immediately; an existing or invalid name is rejected."""
    assert answer("accounts", "create", "shop-1")["name"] == "shop-1"
    assert [account["name"] for account in answer("accounts")] == ["default", "shop-1"]
    assert answer("submit", "opt-out", "--all", "--account", "shop-1")["created"]
    assert "already" in sluice("accounts", "create", "shop-1", status=2).stderr
    for name in ("Shop", "a b", "x" * 64, ""):
        assert "cannot be the name" in sluice("accounts", "create", name, status=2).stderr


@pytest.mark.parametrize(("state", "status"), [("completed", 0), ("failed", 1), ("cancelled", 1)])
def test_waiting_ends_with_the_job(sql, monkeypatch, state, status):
    """`--wait` and `--watch` return when the job has ended, and the exit status tells how."""
    monkeypatch.setattr(cli_waiting, "POLL_SECONDS", 0.01)

    def end_the_job():
        deadline = time.monotonic() + 120
        while not (found := sql("select id from jobs where state = 'planning'")):
            assert time.monotonic() < deadline
        if state == "completed":
            finish(sql, found[0][0], rows=2)
        else:
            sql(
                "update jobs set state = $2::job_state, finished_at = now() where id = $1",
                found[0][0],
                state,
            )

    worker = threading.Thread(target=end_the_job)
    worker.start()
    waited = sluice("submit", "opt-out", "--all", "--wait", "--json", status=status)
    worker.join()
    described = json.loads(waited.stdout)
    assert described["state"] == state
    watched = sluice("job", str(described["id"]), "--watch", "--json", status=status)
    assert json.loads(watched.stdout) == described


def event_when_called(monkeypatch, method):
    """Return an event that is set when the progress bar's method was called."""
    called = threading.Event()
    original = getattr(cli_waiting.ProgressBar, method)

    def call(*arguments):
        original(*arguments)
        called.set()

    monkeypatch.setattr(cli_waiting.ProgressBar, method, call)
    return called


def test_watching_a_job_without_workers_says_so(sql, monkeypatch):
    """After a while without progress, `--watch` says that no worker is running."""
    monkeypatch.setattr(cli_waiting, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(cli_waiting, "STALLED_AFTER_SECONDS", 0.1)
    job = answer("submit", "opt-out", "--all")["job_id"]
    noted = event_when_called(monkeypatch, "note")

    def cancel_when_noted():
        assert noted.wait(120)
        sql("update jobs set state = 'cancelled', finished_at = now() where id = $1", job)

    canceller = threading.Thread(target=cancel_when_noted)
    canceller.start()
    watched = sluice("job", str(job), "--watch", status=1)
    canceller.join()
    assert "sluice up` starts workers" in watched.stderr


def test_a_job_that_selects_no_contact_warns(account_id, sql, database_url):
    """Once planned, the job warns in text and in JSON that it selects no contact. The warning names
    the fields in which its statuses were looked for.
    """

    async def plan_all():
        async with await open_pool(database_url, size=2) as pool, pool.acquire() as connection:
            for job in await pool.fetch("select id, plan_first from jobs order by id"):
                await plan_job(
                    connection, JobKey(DEFAULT_ACCOUNT, job["id"]), chunk_size=5, max_lanes=1
                )
                if job["plan_first"]:
                    limits = {"chunk_size": 5, "role_address_limit": 10}
                    await forecast_job(
                        connection, pool, JobKey(DEFAULT_ACCOUNT, job["id"]), **limits
                    )

    empty, one = (
        answer("submit", "opt-out", "--status", "non_marketable", "--field", field)["job_id"]
        for field in ("email2", "email1")
    )
    assert answer("job", str(empty))["warning"] is None
    sql(
        "insert into jobs (account_id, action, state, fields, params, selection, requested_by,"
        " request_hash, correlation_id, plan_first) values (1, 'opt_out', 'planning', '{1,3}',"
        " '{}', '{\"statuses\": [\"bounce\"]}', 'x', '', '', true)"
    )
    planned = sql("select max(id) from jobs")[0][0]
    asyncio.run(plan_all())
    warning = "The job selects no contact: none meets all conditions of its selection."
    for job, fields in ((empty, "email2"), (planned, "email1, email3")):
        described = answer("job", str(job))
        assert (described["selected"], described["warning"]) == (
            0,
            f"{warning} Only addresses in the job's fields ({fields}) count for `statuses`.",
        )
        assert described["warning"] in " ".join(sluice("job", str(job)).stdout.split())
    assert "is planned and has changed nothing." in sluice("job", str(planned)).stdout
    assert (answer("job", str(one))["selected"], answer("job", str(one))["warning"]) == (1, None)
    warnings = {job["id"]: job["warning"] is not None for job in answer("jobs")}
    assert warnings == {empty: True, one: False, planned: True}


@pytest.mark.parametrize("command", [["jobs"], ["verify"], ["keys", "list"], ["hooks", "list"]])
def test_an_empty_account_option_does_not_mean_all_accounts(account_id, command):
    """An empty `--account`, for example from an unset variable, is an error."""
    assert "There is no account ''" in sluice(*command, "--account", "", status=2).stderr


def test_commands_explain_how_to_migrate_an_empty_database(sql):
    """Commands on an empty database name `sluice migrate`, which migrates it once."""
    sql("drop schema public cascade")
    sql("create schema public")
    assert "sluice migrate" in sluice("jobs", status=1).stderr
    assert "from revision none to" in sluice("migrate").stdout
    assert "already" in sluice("migrate").stdout
    assert answer("jobs") == []


def test_a_closed_pipe_is_no_failure(sql):
    """`sluice results ... | head` ends without an error, even if rows are left."""
    job = answer("submit", "opt-out", "--all")["job_id"]
    finish(sql, job, rows=20_000)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from cli import main; main()",
            "results",
            str(job),
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(120) == 0


def test_following_a_job_outlives_a_lost_connection(sql, monkeypatch):
    """When Postgres ends the watcher's connections, it connects again and sees the job's end."""
    monkeypatch.setattr(cli_waiting, "POLL_SECONDS", 0.01)
    following = event_when_called(monkeypatch, "show")
    job = answer("submit", "opt-out", "--all")["job_id"]

    def interrupt_and_cancel():
        assert following.wait(120)
        deadline = time.monotonic() + 120
        lost = 0
        while lost < 3:
            assert time.monotonic() < deadline
            lost += len(
                sql(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and application_name = 'sluice cli'"
                )
            )
        sql("update jobs set state = 'cancelled', finished_at = now() where id = $1", job)

    other = threading.Thread(target=interrupt_and_cancel)
    other.start()
    watched = sluice("job", str(job), "--watch", "--json", status=1)
    other.join()
    assert json.loads(watched.stdout)["state"] == "cancelled"
