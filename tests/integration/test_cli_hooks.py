"""`sluice hooks` and `sluice accounts secret`: what senders and receivers are given."""

import asyncio
import json

import pytest

from db.pool import open_pool
from db.webhook_deliveries import get_secret_source
from runtime.signing import signing_key_id, webhook_secret
from tests.kit.commands import run_sluice


@pytest.fixture(autouse=True)
def command_environment(monkeypatch, settings, tmp_path):
    """The commands find the test's own database in the environment, as a user's do."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SIGNING_KEYS", settings.signing_keys.get_secret_value())
    monkeypatch.chdir(tmp_path)


def sluice(*arguments, status=0):
    """What the command wrote; fails when it exits with another status."""
    result = run_sluice(*arguments)
    assert result.exit_code == status, result.output
    return result


def answer(*arguments):
    """Run the command with `--json`, and return its parsed answer."""
    return json.loads(sluice(*arguments, "--json").stdout)


def test_a_hook_is_made_listed_and_revoked(settings):
    """Its secrets are shown when it is made, and by no list."""
    assert "no hooks" in sluice("hooks", "list").stdout
    made = answer("hooks", "create", "--source", "keap")
    assert (made["account"], made["source"], made["id"]) == ("default", "keap", 1)
    assert made["form_path"].startswith(f"/v1/hooks/form/{signing_key_id(settings)}.1.")
    assert made["events_path"] == "/v1/hooks/1/events"
    shown = sluice("hooks", "create", "--source", "esp").stdout
    assert ".2." in shown
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
    assert "Hook 7 does not exist" in sluice("hooks", "renew", "7", status=2).stderr
    assert "no account" in sluice("accounts", "renew-secret", "x", status=2).stderr
    assert "no hook 7" in sluice("hooks", "revoke", "7", status=2).stderr
    assert "no account" in sluice("hooks", "list", "--account", "x", status=2).stderr
    assert "no account" in sluice("accounts", "secret", "x", status=2).stderr


def secret_that_signs(settings):
    """What the account's secret is now."""

    async def source_now():
        async with await open_pool(settings.database_url, size=1) as pool:
            return await get_secret_source(pool, 1)

    source = asyncio.run(source_now())
    return webhook_secret(settings, 1, source.salt, key_id=source.key_id)


def test_an_accounts_secret_is_the_one_that_signs(settings):
    """The one by which a receiver knows that a notice is ours; another after it was renewed."""
    shown = sluice("accounts", "secret", "default").stdout.strip()
    assert shown == secret_that_signs(settings)
    assert answer("accounts", "secret", "default") == {"name": "default", "secret": shown}
    renewed = answer("accounts", "renew-secret", "default")["secret"]
    assert renewed == secret_that_signs(settings) != shown
    assert sluice("accounts", "secret", "default").stdout.strip() == renewed
    assert len({shown, renewed, webhook_secret(settings, 1)}) == 3


def test_what_a_key_is_needed_for_is_listed(monkeypatch):
    """So that a key is dropped when nothing depends on it. A secret stays as it is when another
    key comes first, and is told to be gone when its key was dropped.
    """
    old, new = "the-old-key-of-this-test-and-no-other", "the-new-key-of-this-test-and-no-other"
    monkeypatch.setenv("SIGNING_KEYS", old)
    answer("hooks", "create", "--source", "keap")
    secret = answer("accounts", "secret", "default")["secret"]
    monkeypatch.setenv("SIGNING_KEYS", f"{new} {old}")
    answer("hooks", "create", "--source", "esp")
    assert answer("accounts", "secret", "default")["secret"] == secret
    signs, verifies = answer("signing-keys")
    assert (signs["state"], signs["hooks"], signs["accounts"]) == ("signs", [2], [])
    assert (verifies["state"], verifies["hooks"], verifies["accounts"]) == (
        "verifies",
        [1],
        ["default"],
    )
    monkeypatch.setenv("SIGNING_KEYS", new)
    assert [key["state"] for key in answer("signing-keys")] == ["signs", "missing"]
    refused = sluice("accounts", "secret", "default", status=1).stderr
    assert "is not among SIGNING_KEYS" in " ".join(refused.split())
    assert answer("accounts", "renew-secret", "default")["secret"] != secret
    assert (
        answer("hooks", "renew", "1", "--former-days", "0")["events_path"] == "/v1/hooks/1/events"
    )
    (only,) = answer("signing-keys")
    assert (only["id"], only["hooks"], only["accounts"]) == (signs["id"], [1, 2], ["default"])
    assert old not in sluice("signing-keys").stdout


@pytest.mark.parametrize(
    "command", [("hooks", "create", "--source", "keap"), ("accounts", "secret", "default")]
)
def test_without_a_signing_key_it_is_said_so(monkeypatch, command):
    """And nothing is made."""
    monkeypatch.delenv("SIGNING_KEYS")
    assert "SIGNING_KEYS is not set" in sluice(*command, status=1).stderr
    assert answer("hooks", "list") == []
