"""Each value derived from SIGNING_KEYS is bound to one purpose, one object and one key."""

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

KEY, OTHER = "a-key-for-tests-and-for-nothing-else", "another-key-for-tests-as-good-as-the-one"
THIRD = "a-third-key-for-tests-which-is-the-last-of-them"


def keyed(*keys):
    """Return settings with these keys."""
    return Settings(signing_keys=SecretStr(",".join(keys)))


SETTINGS, OTHER_KEY = keyed(KEY), keyed(OTHER)
SALT, OTHER_SALT = bytes(16), bytes(15) + b"\1"
ids = st.integers(1, MAX_ID)
salts = st.binary(min_size=16, max_size=16)
keys = st.text(
    st.characters(codec="utf-8", exclude_characters=", ", exclude_categories=("Z", "C")),
    min_size=32,
    max_size=60,
)
lists_of_keys = st.lists(keys, min_size=1, max_size=5, unique=True)


@st.composite
def rotations(draw):
    """Draw a list of keys, a permutation of some of them, and whether that includes the first."""
    before = draw(lists_of_keys)
    after = draw(st.permutations(before))[: draw(st.integers(1, len(before)))]
    return before, after, before[0] in after


def tokens_of(settings, number, salt):
    """Return each kind of token with the function that verifies it."""
    return (
        (
            signing.one_click_token(settings, number, number),
            lambda by, token: signing.parse_one_click_token(by, token) == (number, number),
        ),
        (
            signing.hook_token(settings, number, salt),
            lambda by, token: signing.is_hook_token(by, token, number, (salt,)),
        ),
    )


@given(rotations(), ids, salts, st.sampled_from(["", "/", ".", ")", " ", "<", ".,"]))
def test_a_token_is_valid_while_its_key_is_listed(rotation, number, salt, around):
    """The key's position and punctuation around the token do not matter."""
    before, after, is_listed = rotation
    for token, verifies in tokens_of(keyed(*before), number, salt):
        assert verifies(keyed(*before), token)
        assert verifies(keyed(*after), f"{around}{token}{around}") is is_listed


@given(rotations(), ids, salts)
def test_a_secret_is_unchanged_while_its_key_is_listed(rotation, number, salt):
    """The order of keys does not matter. A missing key is an error and is not
    replaced by another.
    """
    before, after, is_listed = rotation
    key_id = signing.signing_key_id(keyed(*before))
    for derive in (signing.hook_secret, signing.webhook_secret):
        first = derive(keyed(*before), number, salt)
        if is_listed:
            assert derive(keyed(*after), number, salt, key_id=key_id) == first
        else:
            with pytest.raises(SettingsError, match=key_id):
                derive(keyed(*after), number, salt, key_id=key_id)


@given(ids, salts, st.data())
def test_a_token_with_a_flipped_bit_is_invalid(number, salt, data):
    """One flipped bit anywhere invalidates the token, whichever keys are listed. The last base64
    character has two unused bits and is compared as text.
    """
    settings = keyed(KEY, OTHER, THIRD)
    for token, verifies in tokens_of(settings, number, salt):
        flipped = bytearray(token.encode())
        flipped[data.draw(st.integers(0, len(token) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        assert not verifies(settings, flipped.decode("latin-1"))


@given(ids, st.data())
def test_a_token_with_another_key_id_is_invalid(number, data):
    """Replacing the key id by that of another listed key invalidates the token."""
    settings = keyed(*data.draw(st.permutations([KEY, OTHER, THIRD])))
    first, *others = signing.signing_key_ids(settings)
    for token, verifies in tokens_of(settings, number, SALT):
        assert token.startswith(f"{first}.")
        for other in others:
            assert not verifies(settings, token.replace(first, other, 1))


@given(ids, ids, salts, salts)
def test_a_token_is_invalid_for_another_purpose(number, other, salt, other_salt):
    """A token is invalid for another purpose, hook, account, address or salt. A digest cannot be
    moved to another token.
    """
    link = signing.one_click_token(SETTINGS, number, number)
    form = signing.hook_token(SETTINGS, number, salt)
    assert signing.parse_one_click_token(SETTINGS, form) is None
    assert signing.parse_hook_token(link) is None
    assert signing.is_hook_token(SETTINGS, form, number, (other_salt,)) is (salt == other_salt)
    assert signing.is_hook_token(SETTINGS, form, other, (salt,)) is (number == other)
    key_id, _, _, link_mac = link.split(".")
    form_mac = form.split(".")[2]
    assert signing.parse_one_click_token(SETTINGS, f"{key_id}.{number}.{number}.{form_mac}") is None
    moved = f"{key_id}.{number}.{link_mac}"
    assert not signing.is_hook_token(SETTINGS, moved, number, (salt,))


def test_a_former_salt_stays_valid_next_to_the_new_one():
    """A former salt is valid only as long as it is passed in."""
    form = signing.hook_token(SETTINGS, 7, SALT)
    assert signing.is_hook_token(SETTINGS, form, 7, (OTHER_SALT, SALT))
    assert not signing.is_hook_token(SETTINGS, form, 7, ())


@given(lists_of_keys, st.sampled_from([",", " ", "\n", ", ", " ,\t,"]))
def test_keys_are_separated_by_commas_or_blanks(given_keys, between):
    """Keys keep their order without duplicates. Their ids are distinct and contain no part of a
    key.
    """
    text = between.join([*given_keys, given_keys[0]])
    settings = Settings(signing_keys=SecretStr(text))
    key_ids = signing.signing_key_ids(settings)
    assert key_ids == signing.signing_key_ids(keyed(*given_keys))
    assert len(set(key_ids)) == len(given_keys)
    assert signing.signing_key_id(settings) == key_ids[0]
    assert text not in repr(settings)


@pytest.mark.parametrize("text", ["short", f"{KEY},short", f"{'x' * 16} {'y' * 16}"])
def test_short_keys_are_rejected(text):
    """The error does not quote the key."""
    with pytest.raises(SettingsError, match=r"SIGNING_KEYS: .*32 characters") as raised:
        Settings(signing_keys=SecretStr(text))
    assert text not in str(raised.value)


def test_separators_alone_count_as_empty():
    """They count as an empty value."""
    assert Settings(signing_keys=SecretStr(" ,, ")).signing_keys is None


@given(ids, ids)
def test_a_link_is_parsed_to_its_account_and_address(account_id, address_id):
    """A link is parsed to its account and address only with its own key."""
    token = signing.one_click_token(SETTINGS, account_id, address_id)
    assert signing.parse_one_click_token(SETTINGS, token) == (account_id, address_id)
    assert signing.parse_one_click_token(OTHER_KEY, token) is None


@given(ids, ids, st.data())
def test_a_link_with_a_changed_character_is_invalid(account_id, address_id, data):
    """Changing an id, a full stop or a character of the digest invalidates the link."""
    token = signing.one_click_token(SETTINGS, account_id, address_id)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("0123456789.AZaz-_ \n").filter(lambda c: c != token[at]))
    assert signing.parse_one_click_token(SETTINGS, token[:at] + other + token[at + 1 :]) is None


made_up = st.from_regex(
    r"([0-9a-f]{8}\.)?[0-9]{1,30}\.([0-9]{1,30}\.)?[A-Za-z0-9_-]{43}", fullmatch=True
)


@given(st.text() | made_up)
def test_other_texts_are_no_links(text):
    """Any other text is invalid and raises nothing, even with huge numbers and non-ASCII digits."""
    for token in (text, f"{signing.signing_key_id(SETTINGS)}.{text}"):
        assert signing.parse_one_click_token(SETTINGS, token) is None
        hook_id = signing.parse_hook_token(token)
        assert hook_id is None or 0 < hook_id <= MAX_ID
        assert not signing.is_hook_token(SETTINGS, token, hook_id or 1, (SALT,))


def test_adjacent_ids_are_not_confused():
    """Account 1 with address 11 differs from account 11 with address 1."""
    first = signing.one_click_token(SETTINGS, 1, 11).rsplit(".", 1)[1]
    second = signing.one_click_token(SETTINGS, 11, 1).rsplit(".", 1)[1]
    assert first != second


def test_all_secrets_differ():
    """Secrets differ by purpose, hook, salt, account and key, so none can replace another."""
    secrets = [
        derived
        for settings in (SETTINGS, OTHER_KEY)
        for number in (1, 2)
        for derived in (
            *(signing.hook_secret(settings, number, salt) for salt in (SALT, OTHER_SALT)),
            *(signing.hook_token(settings, number, salt) for salt in (SALT, OTHER_SALT)),
            *(signing.webhook_secret(settings, number, salt) for salt in (None, SALT, OTHER_SALT)),
            signing.one_click_token(settings, number, number),
        )
    ]
    assert len(set(secrets)) == len(secrets) == 32
    assert not any(KEY in text or OTHER in text for text in secrets)


def test_a_hook_token_names_its_hook():
    """The hook id is readable, so that its salt can be looked up before the token is verified."""
    assert signing.parse_hook_token(signing.hook_token(SETTINGS, 77, SALT)) == 77


def test_a_signature_is_as_documented():
    """It is HMAC-SHA256 with the secret's text over the timestamp, a full stop and the body."""
    body = b'{"a": "\xff"}'
    expected = hmac.new(b"secret", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert signing.signature("secret", 1_700_000_000, body) == f"v1={expected}"


@given(st.text(), st.text(st.characters(codec="utf-8")))
def test_texts_are_compared_correctly(text, expected):
    """The comparison is correct for any characters of a header, lone surrogates included."""
    assert signing.equal_in_constant_time(text, expected) == (text == expected)


def test_without_a_key_nothing_is_derived():
    """The error says that the key is missing; nothing is derived from an empty key."""
    none = Settings()
    for derive in (
        lambda: signing.webhook_secret(none, 1),
        lambda: signing.hook_secret(none, 1, SALT),
        lambda: signing.hook_token(none, 1, SALT),
        lambda: signing.one_click_token(none, 1, 1),
    ):
        with pytest.raises(SettingsError, match="SIGNING_KEYS is not set"):
            derive()
