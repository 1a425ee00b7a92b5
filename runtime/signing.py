"""Secrets and tokens, which are derived from SIGNING_KEYS instead of being stored.

Each is an HMAC-SHA256, with one of SIGNING_KEYS, of its purpose and its subject, so that none can
replace another:

| what | format | derived from |
|---|---|---|
| a hook's secret | 64 hexadecimal digits | `hook-secret`, the hook's id and salt |
| a hook's form token | `{key id}.{hook id}.{43 characters}` | `hook-form`, the hook's id and salt |
| an account's webhook secret | 64 hexadecimal digits | `notices`, the account's id and salt |
| a one-click token | `{key id}.{account id}.{address id}.{43 characters}` | `one-click`, both ids |

The 43 characters are base64url of the whole digest. A key id is the first 8 hexadecimal digits of
an HMAC of `key-id` by the key: it tells which key to verify with, and nothing about the key.

The first key makes new tokens and secrets. A token names its key, and is valid while that key is
listed anywhere. A secret names none, so hooks and accounts are stored with the id of the key
that their secret was derived from: it does not change when the first key does.

Requests to hooks and completion webhooks are signed in one way. `Sluice-Timestamp` has Unix
seconds. `Sluice-Signature` is `v1=` and the hexadecimal HMAC-SHA256, by the secret as it is shown,
of the timestamp, a full stop and the bytes of the body.

All functions that derive raise SettingsError if there are no SIGNING_KEYS, or if the key that they
are asked for is not among them.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from runtime.settings import Settings, split_signing_keys
from schemas.errors import SettingsError
from schemas.requests import MAX_ID

_KEY_ID = "[0-9a-f]{8}"
_ID = "[1-9][0-9]{0,18}"
_MAC = "[A-Za-z0-9_-]{43}"

# Mail programs and people add characters around a link: a slash, a full stop, a bracket, or text.
# A letter or digit would make another token.
_BEFORE, _AFTER = "[^A-Za-z0-9]*", "(?![A-Za-z0-9])"
_hook_token = re.compile(rf"{_BEFORE}(({_KEY_ID})\.({_ID})\.{_MAC}){_AFTER}").match
_one_click_token = re.compile(rf"{_BEFORE}(({_KEY_ID})\.({_ID})\.({_ID})\.{_MAC}){_AFTER}").match


class OneClickLink(NamedTuple):
    """The account and address of a one-click link that was followed."""

    account_id: int
    address_id: int


class _Key(NamedTuple):
    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"_Key(id={self.id!r})"


def signing_key_ids(settings: Settings) -> list[str]:
    """Return the ids of SIGNING_KEYS in their order; the first signs."""
    return [key.id for key in _keys(settings)]


def signing_key_id(settings: Settings) -> str:
    """Return the id of the key that makes new tokens and secrets."""
    return _keys(settings)[0].id


def hook_secret(settings: Settings, hook_id: int, salt: bytes, *, key_id: str | None = None) -> str:
    """Return the secret with which senders sign for the hook, by the named or the first key."""
    return _mac(_key(settings, key_id), "hook-secret", hook_id, salt=salt).hex()


def hook_token(settings: Settings, hook_id: int, salt: bytes) -> str:
    """Return the unguessable part of a form URL, for senders that cannot sign."""
    return _make_token(_keys(settings)[0], "hook-form", hook_id, salt=salt)


def parse_hook_token(token: str) -> int | None:
    """Return the hook that the token claims to belong to; `is_hook_token` verifies it."""
    parts = _hook_token(token)
    return _parse_id(parts[3]) if parts else None


def is_hook_token(settings: Settings, token: str, hook_id: int, salts: Iterable[bytes]) -> bool:
    """Return whether a listed key and one of the salts made the token for the hook.

    Text around the token is ignored.
    """
    parts = _hook_token(token)
    if parts is None:
        return False
    expected = [
        _make_token(key, "hook-form", hook_id, salt=salt)
        for key in _keys_with_id(settings, parts[2])
        for salt in salts
    ]
    return _matches_any(parts[1], expected)


def webhook_secret(
    settings: Settings, account_id: int, salt: bytes | None = None, *, key_id: str | None = None
) -> str:
    """Return the secret that signs the account's webhooks, by the named or the first key."""
    return _mac(_key(settings, key_id), "notices", account_id, salt=salt).hex()


def one_click_token(settings: Settings, account_id: int, address_id: int) -> str:
    """Return the unguessable part of a one-click link."""
    return _make_token(_keys(settings)[0], "one-click", account_id, address_id)


def parse_one_click_token(settings: Settings, token: str) -> OneClickLink | None:
    """Return what a listed key signed the token for; None if it was not made here.

    Text around the token is ignored.
    """
    parts = _one_click_token(token)
    if parts is None:
        return None
    account_id, address_id = _parse_id(parts[3]), _parse_id(parts[4])
    if account_id is None or address_id is None:
        return None
    keys = _keys_with_id(settings, parts[2])
    expected = [_make_token(key, "one-click", account_id, address_id) for key in keys]
    return OneClickLink(account_id, address_id) if _matches_any(parts[1], expected) else None


def signature(secret: str, timestamp: int | str, body: bytes) -> str:
    """Return the value that `Sluice-Signature` must have for the message."""
    message = f"{timestamp}.".encode() + body
    return f"v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"


def equal_in_constant_time(given: str, expected: str) -> bool:
    """Compare in a time that does not reveal where the texts differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _matches_any(given: str, expected: list[str]) -> bool:
    """Compare with each, so that the time does not tell which one it was."""
    return sum(equal_in_constant_time(given, each) for each in expected) > 0


def _keys(settings: Settings) -> tuple[_Key, ...]:
    settings.require_signing_keys()
    assert settings.signing_keys is not None
    return _parse_keys(settings.signing_keys.get_secret_value())


@lru_cache(maxsize=8)
def _parse_keys(text: str) -> tuple[_Key, ...]:
    bare = [_Key("", key.encode()) for key in split_signing_keys(text)]
    return tuple(key._replace(id=_mac(key, "key-id").hex()[:8]) for key in bare)


def _key(settings: Settings, key_id: str | None) -> _Key:
    """Return the key with that id, or the first one; raises SettingsError if it is not listed."""
    keys = _keys(settings)
    for key in keys:
        if key_id in {None, key.id}:
            return key
    raise SettingsError(
        f"The signing key {key_id} is not among SIGNING_KEYS, and a secret was derived from it."
        " Nothing was changed. Add the key at the end of SIGNING_KEYS, or renew the secret."
    )


def _keys_with_id(settings: Settings, key_id: str) -> list[_Key]:
    """Return the keys with that id. Two share one in about one of four billion pairs."""
    return [key for key in _keys(settings) if key.id == key_id]


def _make_token(key: _Key, purpose: str, *ids: int, salt: bytes | None = None) -> str:
    mac = base64.urlsafe_b64encode(_mac(key, purpose, *ids, salt=salt)).decode().rstrip("=")
    return ".".join([key.id, *map(str, ids), mac])


def _mac(key: _Key, purpose: str, *ids: int, salt: bytes | None = None) -> bytes:
    # No part contains a colon, so different parts never make the same message.
    parts = ["sluice", purpose, *map(str, ids)]
    if salt is not None:
        parts.append(salt.hex())
    return hmac.new(key.secret, ":".join(parts).encode(), hashlib.sha256).digest()


def _parse_id(digits: str) -> int | None:
    number = int(digits)
    return number if number <= MAX_ID else None
