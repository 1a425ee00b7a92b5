"""Settings are read once, explained in `.env.example`, and rejected with an explanation."""

import re
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from runtime.redis_client import redis_client
from runtime.settings import Settings
from schemas.errors import SettingsError

EXAMPLE = (Path(__file__).parents[2] / ".env.example").read_text()
POSTGRES = "postgres://user:hunter2@db.example.org/sluice"
REDIS = "rediss://:hunter2@redis.example.org:6380"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_example_explains_each_setting_with_its_default() -> None:
    """`.env.example` and the code have the same settings in the same order with the same defaults,
    and a comment precedes each.
    """
    found = re.findall(r"^# (.+)\n([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)
    defaults = {
        name.upper(): "" if field.default is None else str(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert {name: value for _, name, value in found} == defaults | {
        "PGBOUNCER": "false",
        "ALLOW_PRIVATE_WEBHOOKS": "false",
    }
    assert [name for _, name, _ in found] == list(defaults)
    assert all(sentence.endswith(".") for sentence, _, _ in found)


def test_the_example_can_be_used_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty values count as unset, and the defaults are valid."""
    for name, value in re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE):
        monkeypatch.setenv(name, value)
    assert Settings() == Settings.model_construct()


@pytest.mark.parametrize(
    ("values", "embedded", "error"),
    [
        ({}, True, "DATABASE_URL and REDIS_URL are not set"),
        ({"dyno": "worker.1"}, False, r"(?s)not set.*DYNO is set"),
        ({"database_url": POSTGRES}, False, "REDIS_URL is not set, and the other URL is"),
        ({"redis_url": REDIS}, False, "DATABASE_URL is not set, and the other URL is"),
        ({"database_url": POSTGRES, "redis_url": REDIS}, False, None),
        ({"database_url": POSTGRES, "redis_url": REDIS, "dyno": "w.1"}, False, None),
    ],
)
def test_urls_are_both_given_or_both_not(
    values: dict[str, str],
    embedded: bool,
    error: str | None,
) -> None:
    """Embedded servers are used only if neither URL is set, and never on a dyno."""
    settings = Settings(**values)
    assert settings.uses_embedded_servers is embedded
    if error is None:
        settings.require_urls()
        return
    with pytest.raises(SettingsError, match=error):
        settings.require_urls()


def test_an_invalid_setting_is_named_and_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message names every invalid setting and the reason, and quotes no value."""
    monkeypatch.setenv("CHUNK_SIZE", "hunter2")
    monkeypatch.setenv("DATABASE_URL", "mysql://user:hunter2@localhost/x")
    with pytest.raises(SettingsError) as raised:
        Settings()
    message = str(raised.value)
    assert re.search(r"CHUNK_SIZE: .*whole number", message)
    assert re.search(r"DATABASE_URL: .*postgresql:// or postgres://", message)
    assert "hunter2" not in message
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_seconds_are_finite_numbers(value: str) -> None:
    """No setting allows an infinite or undefined wait."""
    for name, field in Settings.model_fields.items():
        if field.annotation is float:
            with pytest.raises(SettingsError, match=name.upper()):
                Settings(**{name: value})


@given(value=st.text())
def test_no_value_is_ever_quoted(value: str) -> None:
    """The message does not depend on the invalid value."""
    for name in ("database_url", "redis_url", "log_format", "chunk_size"):
        messages = set()
        for wrong in (f"x{value}!", "something else"):
            with pytest.raises(SettingsError) as raised:
                Settings(**{name: wrong})
            messages.add(str(raised.value))
        assert len(messages) == 1


def test_encrypted_redis_is_unverified_and_without_retries() -> None:
    """Hosted Redis uses self-signed certificates, and a client with retries would enqueue twice."""
    options: dict[str, Any] = redis_client(REDIS).connection_pool.connection_kwargs
    assert options["ssl_cert_reqs"] == "none"
    assert options["retry"].get_retries() == 0
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (5, 5)
    assert options["socket_keepalive"] is True


def test_a_socket_url_is_parsed() -> None:
    """The URL of the embedded server, with a quoted path, is parsed."""
    pool = redis_client("unix:///tmp/a%20b/valkey.sock").connection_pool
    assert pool.connection_kwargs["path"] == "/tmp/a b/valkey.sock"
    assert pool.connection_class is redis.UnixDomainSocketConnection
