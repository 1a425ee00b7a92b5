"""Field names tell whether a field holds the recipient's address."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.column_names import is_address_column
from producers.field_names import ADDRESS_WORDS, AROUND, Meaning, field_meaning
from tests.kit.field_names import OTHERS, RECIPIENTS

HOOKS = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()


@pytest.mark.parametrize("name", RECIPIENTS)
def test_names_for_the_recipients_address_are_recognized(name):
    """Names as Keap, forms and other systems write them are recognized."""
    assert field_meaning(name) is Meaning.ADDRESS


@pytest.mark.parametrize("name", OTHERS)
def test_names_for_another_persons_address_are_ignored(name):
    """The address of an owner, a sender or a friend is not opted out."""
    assert field_meaning(name) is not Meaning.ADDRESS


def test_the_words_of_names_are_documented():
    """The page lists the words that name an address and those allowed around them."""
    for word in (*ADDRESS_WORDS, *AROUND):
        assert f"`{word}`" in HOOKS, word


@given(st.lists(st.sampled_from([*ADDRESS_WORDS, *AROUND, "7", "x"]), min_size=1, max_size=8))
def test_a_name_is_parsed_unambiguously_and_quickly(words):
    """Names made of any known words, with anything between them, are parsed unambiguously and
    quickly.
    """
    began = time.process_time()
    found = {
        field_meaning.__wrapped__(between.join(words)) for between in ("", " ", "_", ".", "][")
    }
    assert len(found) == 1
    assert time.process_time() - began < 1
    if "x" not in words and set(words) & set(ADDRESS_WORDS) and len("".join(words)) < 50:
        assert found == {Meaning.ADDRESS}


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Email",
            "E-mail 2 Address",
            "Email (Work)",
            "EmailAddress3",
            "Contact Email",
            "Courriel",
        ),
        *("E-Mail-Adresse", "Client Email", "Secondary E-Mail", "Correo electrónico", "email_id"),
    ],
)
def test_a_hook_reads_every_address_header_of_an_import(header):
    """A header that an import reads as an address is also read in a form."""
    assert is_address_column(header)
    assert field_meaning(header) is Meaning.ADDRESS


@pytest.mark.parametrize(
    "header",
    [
        *("Owner Email", "Account Manager Email", "Reply-To", "From Email", "Sender Email"),
        *("User Email", "Assigned to email", "Referred by email", "Spouse Email", "cc_email"),
    ],
)
def test_another_persons_address_is_not_the_recipients(header):
    """Neither an import nor a hook opts out an address in another person's field."""
    assert not is_address_column(header)
    assert field_meaning(header) is not Meaning.ADDRESS
