"""`sluice hooks` and `sluice accounts secret`: what senders and receivers are given."""

import json

import pytest

from runtime.signing import notice_secret
from tests.commands import run_sluice


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, settings, tmp_path):
    """The commands find the test's own database in the environment, as a user's do."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SIGNING_KEY", settings.signing_key.get_secret_value())
    monkeypatch.chdir(tmp_path)


def sluice(*arguments, status=0):
    """What the command wrote; fails when it exits with another status."""
    result = run_sluice(*arguments)
    assert result.exit_code == status, result.output
    return result


def answer(*arguments):
    return json.loads(sluice(*arguments, "--json").stdout)


def test_a_hook_is_made_listed_and_revoked():
    """Its secrets are shown when it is made, and by no list."""
    assert "no hooks" in sluice("hooks", "list").stdout
    made = answer("hooks", "create", "--source", "keap")
    assert (made["account"], made["source"], made["id"]) == ("default", "keap", 1)
    assert made["form_path"].startswith("/v1/hooks/form/1.")
    assert made["events_path"] == "/v1/hooks/1/events"
    shown = sluice("hooks", "create", "--source", "esp").stdout
    assert "/v1/hooks/form/2." in shown
    assert "/v1/hooks/2/events" in shown
    assert answer("hooks", "revoke", "1") == {"id": 1, "revoked": True}
    assert "is revoked" in sluice("hooks", "revoke", "1").stdout
    listed = answer("hooks", "list", "--account", "default")
    assert [(hook["id"], hook["revoked_at"] is not None) for hook in listed] == [
        (2, False),
        (1, True),
    ]
    assert made["secret"] not in sluice("hooks", "list").stdout


def test_what_is_not_there_is_told():
    """With what there is, and the status of wrong input."""
    assert "no hook 7" in sluice("hooks", "revoke", "7", status=2).stderr
    assert "no account" in sluice("hooks", "list", "--account", "x", status=2).stderr
    assert "no account" in sluice("accounts", "secret", "x", status=2).stderr


def test_an_accounts_secret_is_the_one_that_signs(settings):
    """The one by which a receiver knows that a notice is ours."""
    expected = notice_secret(settings, 1)
    assert sluice("accounts", "secret", "default").stdout == f"{expected}\n"
    assert answer("accounts", "secret", "default") == {"name": "default", "secret": expected}


@pytest.mark.parametrize(
    "command", [("hooks", "create", "--source", "keap"), ("accounts", "secret", "default")]
)
def test_without_a_signing_key_it_is_said_so(monkeypatch, command):
    """And nothing is made."""
    monkeypatch.delenv("SIGNING_KEY")
    assert "SIGNING_KEY is not set" in sluice(*command, status=1).stderr
    assert answer("hooks", "list") == []
