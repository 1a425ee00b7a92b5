"""Secrets and tokens that are derived from SIGNING_KEY, so that none of them need be stored.

Each is an HMAC-SHA256, by SIGNING_KEY, of its purpose and of what it is for, so that none can stand
in for another:

| what | format | derived from |
|---|---|---|
| a hook's secret | 64 hexadecimal digits | `hook-secret`, the hook's id and salt |
| a hook's form token | `{hook id}.{43 characters}` | `hook-form`, the hook's id and salt |
| an account's secret for notices | 64 hexadecimal digits | `notices`, the account's id |
| a one-click token | `{account id}.{address id}.{43 characters}` | `one-click`, both ids |

The 43 characters are base64url of the whole digest. A message, be it one that a hook gets or a
completion notice, is signed in one way: `Sluice-Timestamp` has Unix seconds, and
`Sluice-Signature` is `v1=` and the hexadecimal HMAC-SHA256, by the secret as it is shown, of the
timestamp, a full stop and the bytes of the body.

All functions raise SettingsError where there is no SIGNING_KEY. A key that changes takes every one
of these with it, links in mail that was sent among them.
"""

import base64
import hashlib
import hmac
import re
from typing import NamedTuple

from runtime.settings import Settings
from schemas.requests import MAX_ID

_ID = "[1-9][0-9]{0,18}"
_MAC = "[A-Za-z0-9_-]{43}"

# Mail programs and people put more behind a link, or before it: a slash, a full stop, a bracket, or
# what follows it in a sentence. A letter or digit would be another token.
_BEFORE, _BEHIND = "[^A-Za-z0-9]*", "(?![A-Za-z0-9])"
_hook_token = re.compile(rf"{_BEFORE}(({_ID})\.{_MAC}){_BEHIND}").match
_one_click_token = re.compile(rf"{_BEFORE}(({_ID})\.({_ID})\.{_MAC}){_BEHIND}").match


class OneClick(NamedTuple):
    """Whose link it is that somebody followed."""

    account_id: int
    address_id: int


def hook_secret(settings: Settings, hook_id: int, salt: bytes) -> str:
    """With which senders sign what they post to the hook."""
    return _digest(settings, "hook-secret", hook_id, salt.hex()).hex()


def hook_token(settings: Settings, hook_id: int, salt: bytes) -> str:
    """The part of a form URL that nobody can guess; for senders that cannot sign."""
    return f"{hook_id}.{_base64(_digest(settings, 'hook-form', hook_id, salt.hex()))}"


def hook_id_of(token: str) -> int | None:
    """The hook that the token claims to be of; whether it is `is_hook_token` tells."""
    parts = _hook_token(token)
    return _id(parts[2]) if parts else None


def is_hook_token(settings: Settings, token: str, hook_id: int, salt: bytes) -> bool:
    """Whether the token, whatever stands around it, was made for the hook."""
    parts = _hook_token(token)
    return parts is not None and same(parts[1], hook_token(settings, hook_id, salt))


def notice_secret(settings: Settings, account_id: int) -> str:
    """With which completion notices of the account are signed."""
    return _digest(settings, "notices", account_id).hex()


def one_click_token(settings: Settings, account_id: int, address_id: int) -> str:
    """The part of an unsubscribe link that nobody can guess."""
    mac = _digest(settings, "one-click", account_id, address_id)
    return f"{account_id}.{address_id}.{_base64(mac)}"


def one_click_of(settings: Settings, token: str) -> OneClick | None:
    """What the token, whatever stands around it, was made for; None where it was not made here."""
    parts = _one_click_token(token)
    if parts is None:
        return None
    account_id, address_id = _id(parts[2]), _id(parts[3])
    if account_id is None or address_id is None:
        return None
    if not same(parts[1], one_click_token(settings, account_id, address_id)):
        return None
    return OneClick(account_id, address_id)


def signature(secret: str, timestamp: int | str, body: bytes) -> str:
    """What `Sluice-Signature` has to be for the message."""
    message = f"{timestamp}.".encode() + body
    return f"v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"


def same(given: str, expected: str) -> bool:
    """Whether both are one, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _digest(settings: Settings, purpose: str, *of: int | str) -> bytes:
    settings.require_signing_key()
    assert settings.signing_key is not None
    # No part has a colon in it, so that no two lists of parts are one message.
    message = ":".join(["sluice", purpose, *map(str, of)])
    key = settings.signing_key.get_secret_value().encode()
    return hmac.new(key, message.encode(), hashlib.sha256).digest()


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _id(digits: str) -> int | None:
    number = int(digits)
    return number if number <= MAX_ID else None
