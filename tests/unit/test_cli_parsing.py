"""Input that the command line rejects before it connects to any server."""

import json

import pytest

from actions.registry import all_actions
from cli.imports import parse_mapping
from schemas.errors import InvalidRequest
from schemas.requests import MAX_ID
from tests.kit.commands import run_sluice as sluice


@pytest.fixture(autouse=True)
def no_server(monkeypatch, tmp_path):
    """Settings whose URLs lead nowhere; embedded servers would start in an empty folder."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["submit", "opt-out"], "Give a condition"),
        (["submit", "opt-out", "--all", "--field", "email4"], "'email4'"),
        (["submit", "opt-out", "--status", "gone"], "'gone'"),
        (["submit", "opt-out", "--contacts", "missing.txt"], "missing.txt: No such file"),
        (["submit", "opt-out", "--contacts", "."], "directory"),
        (["submit", "opt-out", "--addresses", "missing.txt"], "missing.txt: No such file"),
        (["submit", "opt-in", "--all", "--evidence", "cp1252.json"], "line 2 has bytes of another"),
        (["submit", "opt-in", "--all", "--evidence", "twice.json"], "'source' twice"),
        (["submit", "opt-in", "--all", "--evidence", "broken.json"], "not JSON"),
        (["submit", "opt-in", "--all", "--evidence", "list.json"], "no JSON object"),
        (["submit", "opt-in", "--all", "--evidence", "twice.json"], "'source' twice in one"),
        (["submit", "opt-in", "--contacts", "-", "--evidence", "-"], "Only one"),
        (["submit", "opt-out", "--all", "--key", ""], "idempotency_key"),
        (["submit", "opt-out", "--import", "x"], "Give a whole number"),
        (["submit", "opt-out", "--all", "--evidence", "e.json"], "No such option"),
        (["submit", "opt-out", "--all", "--tag", ""], "selection.tag"),
        (["submit", "opt-out", "--all", "--status", ""], "the first of `selection.statuses`"),
        (["submit", "opt-out", "--all", "--import", ""], "Give a whole number"),
        (["submit", "opt-out", "--all", "--field", ""], "the first of `fields`"),
        (["submit", "opt-out", "--all", "--contacts", ""], "directory"),
        (["submit", "opt-out", "--all", "--account", ""], "account"),
        (["submit", "import"], "No such command"),
        (["import", "list.csv"], "--permission or --no-permission."),
        (["results", "1", "--outcome", "odd"], "odd"),
        (["results", "1", "--outcome", "unprocessed", "--reason", "bounced"], "--reason"),
        (["job", "0"], "Give 1 or more."),
        (["job", str(2**63)], f"Give {MAX_ID:,} or less."),
        (["address", "no-address"], "not an email address"),
    ],
)
def test_invalid_input_is_reported_and_exits_with_2(tmp_path, arguments, says):
    """Each error is named on standard error, with status 2 and nothing on standard output."""
    (tmp_path / "cp1252.json").write_text('{\n"attested_by": "Jörg"}', encoding="cp1252")
    (tmp_path / "twice.json").write_text('{"source": "event", "source": "verbal"}')
    (tmp_path / "broken.json").write_text('{"source": ')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "twice.json").write_text('{"source": "event", "source": "other"}')
    result = sluice(*arguments)
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_with_json_an_error_is_json(tmp_path):
    """With `--json`, errors are JSON on standard error."""
    result = sluice("submit", "opt-out", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stderr)["error"]
    assert error["type"] == "InvalidRequest"
    assert "Give a condition" in error["message"]


@pytest.mark.parametrize("url", ["DATABASE_URL", "REDIS_URL"])
def test_one_url_without_the_other_is_rejected(monkeypatch, url):
    """Setting only one of the two URLs is rejected: it would mix the user's own server with an
    embedded one.
    """
    monkeypatch.delenv(url)
    result = sluice("jobs")
    assert result.exit_code == 1
    assert url in result.stderr


def test_an_unreachable_postgres_is_reported_and_exits_with_1():
    """The error names the server but no password."""
    result = sluice("jobs")
    assert result.exit_code == 1
    assert "Postgres at 127.0.0.1:1 cannot be used" in result.stderr


def test_an_unreachable_redis_is_reported_before_anything_is_stored():
    """A command that enqueues messages fails before it stores anything if Redis is unreachable."""
    result = sluice("submit", "opt-out", "--all")
    assert result.exit_code == 1
    assert "Redis cannot be used" in result.stderr


def test_every_action_over_contacts_has_a_command_with_its_parameters():
    """The registry of actions defines the commands: parameters and evidence become options."""
    for action in all_actions().values():
        if action.creates_contacts:
            continue
        result = sluice("submit", action.name.replace("_", "-"), "--help")
        assert result.exit_code == 0
        assert ("--evidence" in result.stdout) == action.needs_evidence
        for name in action.params.model_fields:
            assert f"--{name.replace('_', '-')}" in result.stdout


@pytest.mark.parametrize("pair", ["Mail", "=email1", "Mail=", "="])
def test_a_mapping_needs_a_header_and_a_meaning(pair):
    """Half of a mapping is rejected with a description of the syntax."""
    result = sluice("import", "list.csv", "--permission", "--map", pair)
    assert result.exit_code == 2
    assert "is not HEADER=MEANING" in result.stderr


def test_a_header_may_have_equals_signs_and_one_meaning():
    """The last equals sign separates; mapping a header twice is rejected."""
    assert parse_mapping(["a=b=email1", "Mail=email2"]) == {"a=b": "email1", "Mail": "email2"}
    with pytest.raises(InvalidRequest, match="twice"):
        parse_mapping(["Mail=email1", "Mail=email2"])
