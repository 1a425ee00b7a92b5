"""The main workflow as a person runs it: commands on one side, worker processes on the other."""

import csv
import io
import json
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.commands import run_sluice

pytestmark = pytest.mark.both_ways

CONTACTS = """First Name,Last Name,Email,Email Address 2,Tags
Ann,Ames,ann@x.example,ann.ames@y.example,"vip,shop"
Bob,Boll,BOB@x.example,,shop
Cat,Cole,cat@x.example,ann@x.example,
Dan,Dorn,not an address,,vip
"""
EVIDENCE = {
    "source": "previous_provider",
    "description": "They signed up with our former provider's form.",
    "collected_from": "2020-01-01",
    "collected_until": "2020-12-31",
    "attested_by": "the shop's manager",
    "provider": "Postbox",
    "last_emailed_on": "2021-01-31",
}


def answer(*arguments: str, stdin: str | None = None) -> dict:
    """Return the JSON output of a command that waits for its job."""
    result = run_sluice(*arguments, "--wait", "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_list_is_imported_opted_out_opted_in_and_explained(
    start_group: StartGroup,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Import, opt-out and opt-in add up, and `sluice address` shows the history of one address."""
    assert settings.database_url
    assert settings.redis_url
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("QUEUE_NAMESPACE", settings.queue_namespace)
    monkeypatch.setenv("PGBOUNCER", str(settings.pgbouncer))
    (tmp_path / "list.csv").write_text(CONTACTS)
    (tmp_path / "evidence.json").write_text(json.dumps(EVIDENCE))
    start_group(processes=1)

    imported = answer("import", str(tmp_path / "list.csv"), "--no-permission", "--tag", "old")
    assert (imported["state"], imported["selected"]) == ("completed", 9)
    assert imported["import_rejections"] == {"invalid_address": 1, "no_address": 1}

    listed = run_sluice("results", str(imported["id"]), "--format", "csv").stdout
    contact = {row["address"]: row["contact_id"] for row in csv.DictReader(io.StringIO(listed))}
    opted_out = answer("submit", "opt-out", "--contacts", "-", stdin=contact["cat@x.example"])
    # Only cat@ is opted out; it is propagated to ann@, which the same contact holds.
    assert (opted_out["counts"]["applied"], opted_out["counts"]["propagated"]) == (1, 1)

    opted_in = answer(
        *("submit", "opt-in", "--tag", "old", "--field", "email1", "--field", "email2"),
        *("--evidence", str(tmp_path / "evidence.json"), "--requested-by", "Eve"),
    )
    counts = {"applied": 2, "unchanged": 0, "rejected": 3, "empty": 1, "propagated": 0}
    assert opted_in["counts"] == counts
    assert opted_in["reasons"] == {"rejected": {"opted_out_by_account": 3}}

    monkeypatch.setenv("COLUMNS", "400")
    output = run_sluice("address", "ann@x.example").stdout
    for part in (
        "ann@x.example  admin",
        "cat@x.example was opted out, and a contact holds both",
        "new → non_marketable",
        "non_marketable → admin, propagated from cat@x.example",
        "rejected (opted_out_by_account: a user of the account opted it out)",
        "Eve",
        "previous_provider",
    ):
        assert part in output
