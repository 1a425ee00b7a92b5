"""A short chaos run loses nothing and does nothing twice, and its log answers every question."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tests.chaos.__main__ as program
from schemas.statuses import RECIPIENT_KINDS
from tests.kit.folders import choose_server_folder
from tests.kit.monitoring import ask, questions, require_jq
from tests.kit.worker_group import ROOT

LAST_LINE = re.compile(r"chaos: seed=7 faults=(\d+) jobs=(\d+) addresses=(\d+) violations=0")
QUESTIONS = 15
ALMOST = 0.01
"""How many seconds two clocks may differ for the same event, since one of them rounds."""


class ChaosRun(NamedTuple):
    """A finished `make chaos`: how the command ended, and the folder of its logs."""

    done: subprocess.CompletedProcess[str]
    folder: Path

    def stored(self, of: str) -> list[dict[str, Any]]:
        """Return what Postgres held at the end: `jobs`, `chunks` or `acts`."""
        rows: list[dict[str, Any]] = json.loads((self.folder / "database.json").read_text())[of]
        return rows

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults, each with what it did."""
        rows: list[dict[str, Any]] = json.loads((self.folder / "report.json").read_text())["faults"]
        return rows

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the log lines of these events, or of all events."""
        with (self.folder / "sluice.log").open() as log:
            lines = [json.loads(line) for line in log if line.startswith("{") and "}\n" in line]
        return [line for line in lines if not names or line["event"] in names]

    def ask(self, number: int, correlation_id: str = "") -> list[dict[str, Any]]:
        """Return the answer to a question of `docs/monitoring.md`."""
        require_jq()
        return ask(number, self.folder, correlation_id)

    def require_logged(self, logged: Iterable[object], stored: Iterable[object]) -> None:
        """Require that what was logged is stored, and that at most one line per fault is missing.

        A process does not write the line if it is killed between the commit and its line. The same
        holds if its connection is cut before it learns of the commit.
        """
        logged_counts, stored_counts = Counter(list(logged)), Counter(list(stored))
        assert not logged_counts - stored_counts
        assert (stored_counts - logged_counts).total() <= len(self.faults())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ChaosRun:
    """Run 15 seconds of faults of most kinds, keep the logs and join them in one file."""
    folder = tmp_path_factory.mktemp("chaos") / "kept"
    arguments = ["--seconds", "15", "--seed", "7", "--patience", "8", "--keep", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments],
        cwd=ROOT,
        env=os.environ | ({"TMPDIR": memory} if (memory := choose_server_folder()) else {}),
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert folder.exists(), done.stdout + done.stderr
    logs = [*folder.glob("group-*.log"), *folder.glob("web.*.log"), folder / "producers.log"]
    # The last line of a killed process may end anywhere.
    together = "\n".join(log.read_text(errors="replace") for log in logs)
    (folder / "sluice.log").write_text(together)
    return ChaosRun(done, folder)


def test_a_short_chaos_run_violates_nothing(run: ChaosRun):
    """Promises 2 to 5: after 15 seconds of faults of most kinds, every check holds, for callers in
    Python and over HTTP. `make chaos` runs for longer.
    """
    done = run.done
    assert done.returncode == 0, done.stdout + done.stderr
    logged = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert logged, done.stdout
    faults, jobs, addresses = map(int, logged.groups())
    assert faults >= 10
    assert jobs > faults
    assert addresses > jobs
    answered = dict(map(reversed, re.findall(r"(\d+) (200|202|no answer)", done.stdout)))
    assert answered.keys() == {"200", "202", "no answer"}, done.stdout


@pytest.mark.parametrize("wrong", [["--seconds", "1"], ["--seed", "x"], ["--unknown"]])
def test_wrong_arguments_are_rejected_before_anything_starts(
    wrong: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """With a wrong argument the exit status is 2, and the error names the argument."""
    started: list[object] = []
    monkeypatch.setattr(program, "chaos_servers", started.append)
    with pytest.raises(SystemExit) as end:
        program.main(wrong)
    assert end.value.code == 2
    assert wrong[0] in capsys.readouterr().err
    assert not started


def test_the_document_has_fifteen_questions():
    """Each question has one command, and they are numbered from 1."""
    assert list(questions()) == list(range(1, QUESTIONS + 1))


def test_1_the_log_shows_the_slowest_job_and_what_delayed_it(run: ChaosRun):
    """Every job is listed, with the end and the duration that Postgres has. The job that makes
    workers stumble has failed chunks.
    """
    logged = {row["job"]: row for row in run.ask(1)}
    stored = {job["job"]: job for job in run.stored("jobs")}
    run.require_logged(logged, stored)
    ended = {job: row["ended"] for job, row in logged.items() if row["ended"]}
    run.require_logged(ended.items(), ((job, f"job.{row['state']}") for job, row in stored.items()))
    for job, end in ended.items():
        if end == "job.completed":
            assert logged[job]["seconds"] == pytest.approx(stored[job]["seconds"], abs=ALMOST)
    seconds = [row["seconds"] for row in logged.values()]
    assert seconds == sorted(seconds, reverse=True)
    assert any(row["failed"] for row in logged.values() if row["action"] == "stumble")
    assert any(row["paused"] for row in logged.values())


def test_2_the_log_shows_the_oldest_waiting_work_of_each_queue(run: ChaosRun):
    """The newest measurement of each queue is shown, and it counts the jobs that wait to be
    planned.
    """
    logged = [row for row in run.ask(2) if row["event"] == "queue.measured"]
    assert {row["queue"] for row in logged} == {"opt_outs", "bulk"}
    measured = run.events("queue.measured")
    for row in logged:
        moments = [line["timestamp"] for line in measured if line["queue"] == row["queue"]]
        assert row["timestamp"] == max(moments)
        assert row["oldest_seconds"] >= 0
        assert row["planning_jobs"] <= row["pending_chunks"]


def test_3_the_log_shows_rejections_by_reason(run: ChaosRun):
    """The rejections by reason equal the sums of the chunks in Postgres."""
    logged = {row["reason"]: row["addresses"] for row in run.ask(3)}
    written = {(line["job"], line["chunk"]) for line in run.events("chunk.processed")}
    done = {(row["job"], row["chunk"]): row for row in run.stored("chunks") if _is_done(row)}
    run.require_logged(written, done)
    stored: Counter[str] = Counter()
    for chunk in written:
        for key, rows in done[chunk]["reasons"].items():
            outcome, _, reason = key.partition(":")
            if outcome == "rejected":
                stored[reason] += rows
    assert logged == stored
    assert logged["internal_error"]


def test_4_the_log_shows_actors_and_their_entry_points(run: ChaosRun):
    """The numbers of jobs equal those in Postgres, for keys, hooks, links and Python."""
    logged = Counter({_whose(row): row["jobs"] for row in run.ask(4)})
    run.require_logged(logged.elements(), map(_whose, run.stored("jobs")))
    assert {actor.partition(":")[0] for _, actor, *_ in logged} == {"key", "hook", "link", "python"}


def test_5_the_log_shows_retries_and_splits_with_their_causes(run: ChaosRun):
    """The log has a failure for every chunk with counted attempts, and it has a split."""
    logged = run.ask(5)
    failed = {(row["job"], row["chunk"]) for row in logged if row["event"] == "chunk.failed"}
    again = {(row["job"], row["chunk"]) for row in run.stored("chunks") if row["attempts"]}
    lost = {(row["job"], row["chunk"]) for row in run.events("worker.lost")}
    assert len(again - failed - lost) <= len(run.faults())
    assert any(row["event"] == "chunk.split" for row in logged)
    assert all(row["error"] and row["location"] for row in logged if row["event"] == "chunk.failed")


def test_6_the_log_shows_times_to_finish_by_account_and_action(run: ChaosRun):
    """The longest time of each account and action equals that in Postgres, and every job is
    counted.
    """
    logged = run.ask(6)
    stored = {job["job"]: job for job in run.stored("jobs") if job["state"] == "completed"}
    kinds = Counter({(row["account"], row["action"]): row["jobs"] for row in logged})
    run.require_logged(
        kinds.elements(), ((job["account"], job["action"]) for job in stored.values())
    )
    for row in logged:
        assert row["longest"] == pytest.approx(stored[row["job"]]["seconds"], abs=ALMOST)
        assert row["median"] <= row["longest"]


def test_7_the_log_shows_how_long_opt_outs_took(run: ChaosRun):
    """Every recipient's own opt-out is listed, with the duration that Postgres has. Those without
    an end come first, and are no more than the lines that faults cut off.
    """
    logged = run.ask(7)
    stored = {job["job"]: job for job in run.stored("jobs") if job["kind"] in RECIPIENT_KINDS}
    run.require_logged((row["job"] for row in logged), stored)
    for row in logged:
        if row["seconds"] is not None:
            assert row["seconds"] == pytest.approx(stored[row["job"]]["seconds"], abs=ALMOST)
    run.require_logged(
        (row["job"] for row in logged if row["seconds"] is not None),
        (id_ for id_, job in stored.items() if job["state"] == "completed"),
    )
    order = [(row["seconds"] is not None, -(row["seconds"] or 0)) for row in logged]
    assert order == sorted(order)
    assert {"hook_events", "hook_form", "python", "http"} <= {row["via"] for row in logged}


def test_8_the_log_shows_processes_and_which_died(run: ChaosRun):
    """Every worker that Postgres names is listed. A killed one has no stop, and a lost one is shown
    with the chunk that it held.
    """
    logged = {row["process"]: row for row in run.ask(8)}
    assert {row["worker"] for row in run.stored("chunks") if _is_a_workers(row)} <= logged.keys()
    died = {name.rpartition(".")[2] for name, row in logged.items() if not row["stopped"]}
    killed = {
        found[1]
        for fault in run.faults()
        if (found := re.fullmatch(r"killed worker (\d+)", fault["did"]))
    }
    assert killed
    assert killed <= died
    for line in run.events("worker.lost"):
        in_hand = {"job": line["job"], "chunk": line.get("chunk")}
        assert in_hand in logged[line["worker"]]["in_hand"]


def test_9_the_log_shows_outages_and_their_ends(run: ChaosRun):
    """Both servers were down for a while. Each process that noticed, and ran for ten more seconds,
    logs the recovery too.
    """
    assert {"redis_killed", "postgres_restarted"} <= {fault["kind"] for fault in run.faults()}
    logged = run.ask(9)
    for server in ("Redis", "Postgres"):
        moments = [row["timestamp"] for row in logged if row["server"] == server]
        assert moments
        assert moments == sorted(moments)
    assert all(row["error"] for row in logged if row["is"] == "unreachable")
    # A line about a lost worker was written by the process that detected it.
    last = {
        line.get("detected_by") or line.get("worker") or line.get("web"): line["timestamp"]
        for line in run.events()
    }
    ends = {(row["process"], row["server"]): row for row in logged}
    for (process, _), row in ends.items():
        went_on = datetime.fromisoformat(last[process]) - datetime.fromisoformat(row["timestamp"])
        assert row["is"] == "recovered" or went_on < timedelta(seconds=10), row


def test_10_the_log_shows_requests_by_route_and_status(run: ChaosRun):
    """Every answered request is counted under its route."""
    logged = run.ask(10)
    assert sum(row["requests"] for row in logged) == len(run.events("request.answered"))
    submitted = [row for row in logged if (row["method"], row["route"]) == ("POST", "/v1/jobs")]
    assert {row["http_status"] for row in submitted} >= {202}
    assert all(row["median_ms"] <= row["p95_ms"] for row in logged)


def test_11_the_log_shows_load_by_account_and_actor(run: ChaosRun):
    """The work time of each account equals that of its logged chunks in Postgres."""
    logged = run.ask(11)
    spent = {(row["job"], row["chunk"]): row["duration_ms"] for row in run.stored("chunks")}
    account_of = {job["job"]: job["account"] for job in run.stored("jobs")}
    stored: Counter[int] = Counter()
    for line in run.events("chunk.processed"):
        stored[account_of[line["job"]]] += spent[line["job"], line["chunk"]] or 0
    for account, milliseconds in stored.items():
        seconds = sum(row["work_seconds"] for row in logged if row["account"] == account)
        assert seconds == pytest.approx(milliseconds / 1000)
    assert any(row["requests"] for row in logged if (row["actor"] or "").startswith("key:"))


def test_12_the_log_shows_the_version_of_each_process(run: ChaosRun):
    """Every worker and web process that started ran this version."""
    logged = run.ask(12)
    assert {row["version"] for row in logged} == {version("sluice")}
    assert {row["process"] for row in logged} == {
        row["process"] for row in run.ask(8) if row["started"]
    }


def test_13_the_log_shows_failing_webhooks_with_job_and_reason(run: ChaosRun):
    """The first delivery was answered 500. Every webhook with more than one attempt is listed."""
    logged = {row["job"]: row for row in run.ask(13)}
    again = {job["job"] for job in run.stored("jobs") if (job["notice_attempts"] or 0) > 1}
    run.require_logged(logged, again)
    assert any(row["http_status"] == 500 for row in logged.values())
    assert all(row["http_status"] or row["error"] for row in logged.values())
    delivered = {job["job"] for job in run.stored("jobs") if job["delivered_at"]}
    assert {job for job, row in logged.items() if row["end"] == "delivered"} <= delivered


def test_14_the_log_shows_what_operators_did(run: ChaosRun):
    """Each entry is in the activity in Postgres, with its actor; an API key paused a job."""
    logged = [_act(row["event"], row) for row in run.ask(14)]
    events = [row for row in run.stored("acts") if row["event"] != "job.submitted"]
    kept = (_act(row["event"], row) for row in events)
    run.require_logged(logged, kept)
    assert any((act, actor[:4]) == ("job.paused", "key:") for act, actor, *_ in logged)


def test_15_a_correlation_id_follows_a_submission(run: ChaosRun):
    """A correlation id leads from the request through the job's events to each of its chunks."""
    by_key = {
        act["job"]
        for act in run.stored("acts")
        if (act["event"], act["via"]) == ("job.paused", "http")
    }
    first = next(
        job
        for job in run.stored("jobs")
        if job["job"] in by_key and (job["via"], job["state"]) == ("http", "completed")
    )
    logged = run.ask(15, first["correlation_id"])
    assert {row["job"] for row in logged if "job" in row} == {first["job"]}
    events = [row["event"] for row in logged]
    assert {"job.submitted", "job.planned", "job.paused", "job.completed"} <= set(events)
    assert "request.answered" in events
    chunks = {row["chunk"] for row in logged if row["event"] == "chunk.processed"}
    run.require_logged(
        chunks,
        (
            row["chunk"]
            for row in run.stored("chunks")
            if row["job"] == first["job"] and _is_done(row)
        ),
    )
    assert chunks


def _is_done(chunk: dict[str, Any]) -> bool:
    return bool(chunk["state"] == "done")


def _is_a_workers(chunk: dict[str, Any]) -> bool:
    return _is_done(chunk) and bool(chunk["worker"])


def _whose(row: dict[str, Any]) -> tuple[int, str, str, str]:
    return row["account"], row["actor"], row["via"], row["action"]


def _act(name: str, row: dict[str, Any]) -> tuple[str, str, Any, Any, Any]:
    return name, row["actor"], *(row.get(key) for key in ("job", "key", "hook"))
