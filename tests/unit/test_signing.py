"""What is derived from SIGNING_KEY is of one purpose, one thing and one key."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from runtime import signing
from runtime.settings import Settings
from schemas.errors import SettingsError
from schemas.requests import MAX_ID

SETTINGS = Settings(signing_key=SecretStr("a key for tests, and for nothing else"))
OTHER_KEY = Settings(signing_key=SecretStr("another key for tests, as good as the one"))
SALT, OTHER_SALT = bytes(16), bytes(15) + b"\1"
ids = st.integers(1, MAX_ID)


@given(ids, ids)
def test_a_link_leads_back_to_what_it_was_made_for(account_id, address_id):
    """And only by the key that it was made with."""
    token = signing.one_click_token(SETTINGS, account_id, address_id)
    assert signing.one_click_of(SETTINGS, token) == (account_id, address_id)
    assert signing.one_click_of(OTHER_KEY, token) is None


@given(ids, ids, st.data())
def test_a_link_with_one_character_changed_is_none(account_id, address_id, data):
    """Whichever it is: an id, a full stop, or a character of the digest."""
    token = signing.one_click_token(SETTINGS, account_id, address_id)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("0123456789.AZaz-_ \n").filter(lambda c: c != token[at]))
    assert signing.one_click_of(SETTINGS, token[:at] + other + token[at + 1 :]) is None


@given(st.text() | st.from_regex(r"[0-9]{1,30}\.[0-9]{1,30}\.[A-Za-z0-9_-]{43}", fullmatch=True))
def test_no_text_that_was_not_made_here_is_a_link(text):
    """Nor does any raise, huge numbers and other alphabets' digits among them."""
    assert signing.one_click_of(SETTINGS, text) is None
    hook_id = signing.hook_id_of(text)
    assert hook_id is None or 0 < hook_id <= MAX_ID


def test_ids_side_by_side_do_not_run_together():
    """Account 1 and address 11 is another pair than account 11 and address 1."""
    first = signing.one_click_token(SETTINGS, 1, 11).rsplit(".", 1)[1]
    second = signing.one_click_token(SETTINGS, 11, 1).rsplit(".", 1)[1]
    assert first != second


def test_each_secret_is_of_its_own():
    """Of its purpose, hook, salt, account and key: none can stand in for another."""
    made = [
        derived
        for settings in (SETTINGS, OTHER_KEY)
        for number in (1, 2)
        for derived in (
            *(signing.hook_secret(settings, number, salt) for salt in (SALT, OTHER_SALT)),
            *(signing.hook_token(settings, number, salt) for salt in (SALT, OTHER_SALT)),
            signing.notice_secret(settings, number),
            signing.one_click_token(settings, number, number),
        )
    ]
    assert len(set(made)) == len(made) == 24
    assert not any("a key for tests" in text for text in made)


def test_a_hook_token_names_its_hook():
    """So that its salt can be looked up, before it is seen whether the token holds."""
    assert signing.hook_id_of(signing.hook_token(SETTINGS, 77, SALT)) == 77


def test_a_signature_is_what_the_documentation_says():
    """HMAC-SHA256 by the secret's text, of timestamp, full stop and the bytes of the body."""
    body = b'{"a": "\xff"}'
    expected = hmac.new(b"secret", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert signing.signature("secret", 1_700_000_000, body) == f"v1={expected}"


@given(st.text(), st.text(st.characters(codec="utf-8")))
def test_texts_are_the_same_or_not(given_, expected):
    """Whatever characters a header brings, lone surrogates among them."""
    assert signing.same(given_, expected) == (given_ == expected)


def test_without_a_key_nothing_is_derived():
    """It is said so, and not derived from an empty key."""
    none = Settings()
    for derive in (
        lambda: signing.notice_secret(none, 1),
        lambda: signing.hook_secret(none, 1, SALT),
        lambda: signing.hook_token(none, 1, SALT),
        lambda: signing.one_click_token(none, 1, 1),
    ):
        with pytest.raises(SettingsError, match="SIGNING_KEY is not set"):
            derive()
