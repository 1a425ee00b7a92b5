"""`sluice hooks`, `sluice accounts secret` and `sluice signing-keys`: secrets and their use."""

import asyncio
import json

import pytest

from db.pool import open_pool
from db.webhook_deliveries import get_secret_source
from runtime.signing import signing_key_id, webhook_secret
from tests.kit.commands import run_sluice


@pytest.fixture(autouse=True)
def command_environment(monkeypatch, settings, tmp_path):
    """Point the commands at the test's own database through the environment."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SIGNING_KEYS", settings.signing_keys.get_secret_value())
    monkeypatch.chdir(tmp_path)


def sluice(*arguments, status=0):
    """Run the command, require its exit status, and return its result."""
    result = run_sluice(*arguments)
    assert result.exit_code == status, result.output
    return result


def answer(*arguments):
    """Run the command with `--json`, and return its parsed answer."""
    return json.loads(sluice(*arguments, "--json").stdout)


def test_a_hook_is_created_listed_and_revoked(settings):
    """A hook's secret is shown when the hook is created, and by no list."""
    assert "no hooks" in sluice("hooks", "list").stdout
    created = answer("hooks", "create", "--source", "keap")
    assert (created["account"], created["source"], created["id"]) == ("default", "keap", 1)
    assert created["form_path"].startswith(f"/v1/hooks/form/{signing_key_id(settings)}.1.")
    assert created["events_path"] == "/v1/hooks/1/events"
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
    assert created["secret"] not in sluice("hooks", "list").stdout


def test_unknown_hooks_and_accounts_are_reported():
    """An unknown hook or account causes an error with the exit status of invalid input."""
    assert "Hook 7 does not exist" in sluice("hooks", "renew", "7", status=2).stderr
    assert "no account" in sluice("accounts", "renew-secret", "x", status=2).stderr
    assert "no hook 7" in sluice("hooks", "revoke", "7", status=2).stderr
    assert "no account" in sluice("hooks", "list", "--account", "x", status=2).stderr
    assert "no account" in sluice("accounts", "secret", "x", status=2).stderr


def read_signing_secret(settings):
    """Return the secret that signs the account's webhooks at this moment."""

    async def read_source():
        async with await open_pool(settings.database_url, size=1) as pool:
            return await get_secret_source(pool, 1)

    source = asyncio.run(read_source())
    return webhook_secret(settings, 1, source.salt, key_id=source.key_id)


def test_the_shown_secret_of_an_account_signs(settings):
    """The shown secret signs the account's completion webhooks, also after it was renewed."""
    shown = sluice("accounts", "secret", "default").stdout.strip()
    assert shown == read_signing_secret(settings)
    assert answer("accounts", "secret", "default") == {"name": "default", "secret": shown}
    renewed = answer("accounts", "renew-secret", "default")["secret"]
    assert renewed == read_signing_secret(settings) != shown
    assert sluice("accounts", "secret", "default").stdout.strip() == renewed
    assert len({shown, renewed, webhook_secret(settings, 1)}) == 3


def test_the_uses_of_signing_keys_are_listed(monkeypatch):
    """Each signing key is listed with the hooks and accounts that need it. An account's secret
    stays the same when another key comes first. When its key was dropped, the command says so.
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
def test_a_missing_signing_key_is_reported(monkeypatch, command):
    """The commands say that `SIGNING_KEYS` is missing, and nothing is created."""
    monkeypatch.delenv("SIGNING_KEYS")
    assert "SIGNING_KEYS is not set" in sluice(*command, status=1).stderr
    assert answer("hooks", "list") == []
