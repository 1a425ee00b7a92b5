"""A short storm of faults leaves nothing lost and nothing done twice, and its log can be asked."""

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
"""By so many seconds two clocks that tell of the same may differ: one rounds."""


class Storm(NamedTuple):
    """How the command ended, and the folder of its logs."""

    done: subprocess.CompletedProcess[str]
    folder: Path

    def truth(self, of: str) -> list[dict[str, Any]]:
        """What Postgres knew at the end: jobs, chunks or acts."""
        rows: list[dict[str, Any]] = json.loads((self.folder / "database.json").read_text())[of]
        return rows

    def faults(self) -> list[dict[str, Any]]:
        """The faults, each with what it did."""
        rows: list[dict[str, Any]] = json.loads((self.folder / "report.json").read_text())["faults"]
        return rows

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The log's lines of these events, or of all."""
        with (self.folder / "sluice.log").open() as log:
            lines = [json.loads(line) for line in log if line.startswith("{") and "}\n" in line]
        return [line for line in lines if not names or line["event"] in names]

    def ask(self, number: int, correlation_id: str = "") -> list[dict[str, Any]]:
        """The answer to a question of `docs/monitoring.md`."""
        require_jq()
        return ask(number, self.folder, correlation_id)

    def require_told(self, told: Iterable[object], true: Iterable[object]) -> None:
        """All that was told is true; what is true was told, but for what the faults cut off.

        A process that is killed between a commit and its line, or does not learn of the commit
        since its connection was cut, does not write the line.
        """
        said, known = Counter(list(told)), Counter(list(true))
        assert not said - known
        assert (known - said).total() <= len(self.faults())


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Storm:
    """A quarter of a minute of faults of most kinds, whose logs are kept and put together."""
    folder = tmp_path_factory.mktemp("storm") / "kept"
    wanted = ["--seconds", "15", "--seed", "7", "--patience", "8", "--keep", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *wanted],
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
    return Storm(done, folder)


def test_a_short_storm_violates_nothing(storm: Storm):
    """Promises 2 to 5: a quarter of a minute of faults of most kinds, and every check holds, for
    those who asked in Python and for those who asked over HTTP. `make chaos` rages for longer.
    """
    done = storm.done
    assert done.returncode == 0, done.stdout + done.stderr
    told = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert told, done.stdout
    faults, jobs, addresses = map(int, told.groups())
    assert faults >= 10
    assert jobs > faults
    assert addresses > jobs
    answered = dict(map(reversed, re.findall(r"(\d+) (200|202|no answer)", done.stdout)))
    assert answered.keys() == {"200", "202", "no answer"}, done.stdout


@pytest.mark.parametrize("wrong", [["--seconds", "1"], ["--seed", "x"], ["--unknown"]])
def test_wrong_arguments_are_refused_before_anything_starts(
    wrong: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Exit status 2, and a sentence that says which argument it was."""
    started: list[object] = []
    monkeypatch.setattr(program, "chaos_servers", started.append)
    with pytest.raises(SystemExit) as end:
        program.main(wrong)
    assert end.value.code == 2
    assert wrong[0] in capsys.readouterr().err
    assert not started


def test_the_document_asks_fifteen_questions():
    """Each has one line, and they are numbered."""
    assert list(questions()) == list(range(1, QUESTIONS + 1))


def test_1_the_slowest_job_is_told_with_what_kept_it(storm: Storm):
    """Every job is there; how it ended and how long that took is as in Postgres, and the job over
    which workers stumble has failed chunks.
    """
    told = {row["job"]: row for row in storm.ask(1)}
    true = {job["job"]: job for job in storm.truth("jobs")}
    storm.require_told(told, true)
    ended = {job: row["ended"] for job, row in told.items() if row["ended"]}
    storm.require_told(ended.items(), ((job, f"job.{row['state']}") for job, row in true.items()))
    for job, end in ended.items():
        if end == "job.completed":
            assert told[job]["seconds"] == pytest.approx(true[job]["seconds"], abs=ALMOST)
    seconds = [row["seconds"] for row in told.values()]
    assert seconds == sorted(seconds, reverse=True)
    assert any(row["failed"] for row in told.values() if row["action"] == "stumble")
    assert any(row["paused"] for row in told.values())


def test_2_the_oldest_waiting_work_is_told_for_each_queue(storm: Storm):
    """The newest measurement counts, and in it the jobs that wait for their plan."""
    told = [row for row in storm.ask(2) if row["event"] == "queue.measured"]
    assert {row["queue"] for row in told} == {"opt_outs", "bulk"}
    measured = storm.events("queue.measured")
    for row in told:
        moments = [line["timestamp"] for line in measured if line["queue"] == row["queue"]]
        assert row["timestamp"] == max(moments)
        assert row["oldest_seconds"] >= 0
        assert row["planning_jobs"] <= row["pending_chunks"]


def test_3_rejections_are_told_by_reason(storm: Storm):
    """The sums are those of the chunks' rows in Postgres."""
    told = {row["reason"]: row["addresses"] for row in storm.ask(3)}
    written = {(line["job"], line["chunk"]) for line in storm.events("chunk.processed")}
    done = {(row["job"], row["chunk"]): row for row in storm.truth("chunks") if _is_done(row)}
    storm.require_told(written, done)
    true: Counter[str] = Counter()
    for chunk in written:
        for key, rows in done[chunk]["reasons"].items():
            outcome, _, reason = key.partition(":")
            if outcome == "rejected":
                true[reason] += rows
    assert told == true
    assert told["internal_error"]


def test_4_who_submitted_is_told_with_the_way_in(storm: Storm):
    """The numbers of jobs are those of Postgres, for keys, hooks, links and Python."""
    told = Counter({_whose(row): row["jobs"] for row in storm.ask(4)})
    storm.require_told(told.elements(), map(_whose, storm.truth("jobs")))
    assert {actor.partition(":")[0] for _, actor, *_ in told} == {"key", "hook", "link", "python"}


def test_5_what_was_retried_or_split_is_told_with_why(storm: Storm):
    """Chunks that Postgres counts attempts of have failed, and a split one is told of."""
    told = storm.ask(5)
    failed = {(row["job"], row["chunk"]) for row in told if row["event"] == "chunk.failed"}
    again = {(row["job"], row["chunk"]) for row in storm.truth("chunks") if row["attempts"]}
    lost = {(row["job"], row["chunk"]) for row in storm.events("worker.lost")}
    assert len(again - failed - lost) <= len(storm.faults())
    assert any(row["event"] == "chunk.split" for row in told)
    assert all(row["error"] and row["location"] for row in told if row["event"] == "chunk.failed")


def test_6_the_time_to_finish_is_told_by_account_and_action(storm: Storm):
    """The longest of each is as Postgres has it, and all are counted."""
    told = storm.ask(6)
    true = {job["job"]: job for job in storm.truth("jobs") if job["state"] == "completed"}
    kinds = Counter({(row["account"], row["action"]): row["jobs"] for row in told})
    storm.require_told(kinds.elements(), ((job["account"], job["action"]) for job in true.values()))
    for row in told:
        assert row["longest"] == pytest.approx(true[row["job"]]["seconds"], abs=ALMOST)
        assert row["median"] <= row["longest"]


def test_7_opt_outs_are_told_from_receipt_to_being_in_force(storm: Storm):
    """Every recipient's own opt-out is there, as long as Postgres says; those without an end are
    first, and are no more than lines were cut off.
    """
    told = storm.ask(7)
    true = {job["job"]: job for job in storm.truth("jobs") if job["kind"] in RECIPIENT_KINDS}
    storm.require_told((row["job"] for row in told), true)
    for row in told:
        if row["seconds"] is not None:
            assert row["seconds"] == pytest.approx(true[row["job"]]["seconds"], abs=ALMOST)
    storm.require_told(
        (row["job"] for row in told if row["seconds"] is not None),
        (id_ for id_, job in true.items() if job["state"] == "completed"),
    )
    order = [(row["seconds"] is not None, -(row["seconds"] or 0)) for row in told]
    assert order == sorted(order)
    assert {"hook_events", "hook_form", "python", "http"} <= {row["via"] for row in told}


def test_8_processes_are_told_with_which_died(storm: Storm):
    """Each worker that Postgres knows is there; a killed one has not stopped, and what a lost one
    had in hand is told.
    """
    told = {row["process"]: row for row in storm.ask(8)}
    assert {row["worker"] for row in storm.truth("chunks") if _is_a_workers(row)} <= told.keys()
    died = {name.rpartition(".")[2] for name, row in told.items() if not row["stopped"]}
    killed = {
        found[1]
        for fault in storm.faults()
        if (found := re.fullmatch(r"killed worker (\d+)", fault["did"]))
    }
    assert killed
    assert killed <= died
    for line in storm.events("worker.lost"):
        in_hand = {"job": line["job"], "chunk": line.get("chunk")}
        assert in_hand in told[line["worker"]]["in_hand"]


def test_9_outages_are_told_with_their_ends(storm: Storm):
    """The storm took both servers away, and gave them back: each process that saw that, and went on
    for a while after the last of it, tells so.
    """
    assert {"redis_killed", "postgres_restarted"} <= {fault["kind"] for fault in storm.faults()}
    told = storm.ask(9)
    for server in ("Redis", "Postgres"):
        moments = [row["timestamp"] for row in told if row["server"] == server]
        assert moments
        assert moments == sorted(moments)
    assert all(row["error"] for row in told if row["is"] == "unreachable")
    # A line that tells of a lost worker is another's.
    last = {
        line.get("detected_by") or line.get("worker") or line.get("web"): line["timestamp"]
        for line in storm.events()
    }
    ends = {(row["process"], row["server"]): row for row in told}
    for (process, _), row in ends.items():
        went_on = datetime.fromisoformat(last[process]) - datetime.fromisoformat(row["timestamp"])
        assert row["is"] == "recovered" or went_on < timedelta(seconds=10), row


def test_10_requests_are_told_by_route_and_status(storm: Storm):
    """All that were answered are counted, and no path is told."""
    told = storm.ask(10)
    assert sum(row["requests"] for row in told) == len(storm.events("request.answered"))
    submitted = [row for row in told if (row["method"], row["route"]) == ("POST", "/v1/jobs")]
    assert {row["http_status"] for row in submitted} >= {202}
    assert all(row["median_ms"] <= row["p95_ms"] for row in told)


def test_11_the_load_is_told_by_account_and_actor(storm: Storm):
    """The work of each account's chunks is what Postgres has of those that were told."""
    told = storm.ask(11)
    spent = {(row["job"], row["chunk"]): row["duration_ms"] for row in storm.truth("chunks")}
    account_of = {job["job"]: job["account"] for job in storm.truth("jobs")}
    true: Counter[int] = Counter()
    for line in storm.events("chunk.processed"):
        true[account_of[line["job"]]] += spent[line["job"], line["chunk"]] or 0
    for account, milliseconds in true.items():
        seconds = sum(row["work_seconds"] for row in told if row["account"] == account)
        assert seconds == pytest.approx(milliseconds / 1000)
    assert any(row["requests"] for row in told if (row["actor"] or "").startswith("key:"))


def test_12_versions_are_told_with_their_processes(storm: Storm):
    """Each process that started, of workers and web, ran this version."""
    told = storm.ask(12)
    assert {row["version"] for row in told} == {version("sluice")}
    assert {row["process"] for row in told} == {
        row["process"] for row in storm.ask(8) if row["started"]
    }


def test_13_failing_webhooks_are_told_with_job_and_reason(storm: Storm):
    """The very first notice was answered 500; each that took more than one attempt is told."""
    told = {row["job"]: row for row in storm.ask(13)}
    again = {job["job"] for job in storm.truth("jobs") if (job["notice_attempts"] or 0) > 1}
    storm.require_told(told, again)
    assert any(row["http_status"] == 500 for row in told.values())
    assert all(row["http_status"] or row["error"] for row in told.values())
    delivered = {job["job"] for job in storm.truth("jobs") if job["delivered_at"]}
    assert {job for job, row in told.items() if row["end"] == "delivered"} <= delivered


def test_14_what_operators_did_is_told_with_who(storm: Storm):
    """Each act is one that Postgres keeps, with its actor; a key paused a job."""
    told = [_act(row["event"], row) for row in storm.ask(14)]
    kept = (_act(row["act"], row) for row in storm.truth("acts") if row["act"] != "job.submitted")
    storm.require_told(told, kept)
    assert any((act, actor[:4]) == ("job.paused", "key:") for act, actor, *_ in told)


def test_15_one_submission_is_followed_by_one_id(storm: Storm):
    """From its request over a job that was submitted, paused and completed to its last chunk."""
    by_key = {
        act["job"]
        for act in storm.truth("acts")
        if (act["act"], act["via"]) == ("job.paused", "http")
    }
    first = next(
        job
        for job in storm.truth("jobs")
        if job["job"] in by_key and (job["via"], job["state"]) == ("http", "completed")
    )
    told = storm.ask(15, first["correlation_id"])
    assert {row["job"] for row in told if "job" in row} == {first["job"]}
    events = [row["event"] for row in told]
    assert {"job.submitted", "job.planned", "job.paused", "job.completed"} <= set(events)
    assert "request.answered" in events
    chunks = {row["chunk"] for row in told if row["event"] == "chunk.processed"}
    storm.require_told(
        chunks,
        (
            row["chunk"]
            for row in storm.truth("chunks")
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
