"""Which contacts the rows of an import are about."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import combinations, count

from hypothesis import example, given
from hypothesis import strategies as st

from actions.rules.recognition import FIELDS, ContactCounts, recognize
from schemas.recognition import ContactCandidate, RecognitionResult, RowToRecognize

KEYS = [f"a{n}@example.com" for n in range(5)]
NAMES = [None, "", "Ann", "ANN ", "Bob"]
IDS = [None, None, "7", "8", "9"]

held = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True)
file = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), held)
files = st.lists(file, max_size=6)


def rows_of(file, first=1, external_ids=()) -> list[RowToRecognize]:
    """Return rows with ids from `first` on."""
    ids = dict(enumerate(external_ids))
    return [
        RowToRecognize(
            first + n, given_name, family_name, None, ids.get(n), (*keys, *[None] * (3 - len(keys)))
        )
        for n, (given_name, family_name, keys) in enumerate(file)
    ]


def recognize_in(
    account: Sequence[ContactCandidate], rows, *, limit: int = 10, max_contacts: int = 1_000
) -> RecognitionResult:
    """Recognize the rows in an account that has these contacts."""
    holders = {
        key: [contact.is_repeat for contact in account if key in contact.held]
        for key in {key for contact in account for key in contact.held}
    }
    counts = ContactCounts(
        [(key, len(repeats), sum(repeats)) for key, repeats in holders.items()],
        role_address_limit=limit,
        max_contacts=max_contacts,
    )
    return recognize(rows, account, counts)


def account_after(rows, before=(), **limits) -> list[ContactCandidate]:
    """Return the account's contacts after an import of the rows."""
    contacts = {contact.id: contact for contact in before}
    found = recognize_in(before, rows, **limits)
    for row in rows:
        if row.id not in found.matches:
            contacts[row.id] = ContactCandidate(
                row.id,
                row.given_name,
                row.family_name,
                row.company,
                None if row.id in found.without_external_id else row.external_id,
                row.id in found.repeats,
                {n: key for n, key in zip(FIELDS, row.match_keys, strict=True) if key},
            )
    for contact_id, field, key, _ in found.additions:
        contacts[contact_id].match_keys[field] = key
    for updated in found.updated.values():
        contact = contacts[updated.id]
        contact.given_name, contact.family_name = updated.given_name, updated.family_name
        contact.external_id = updated.external_id
    for contact_id in found.counting:
        contacts[contact_id].is_repeat = False
    return list(contacts.values())


def sibling_pairs(contacts) -> set[frozenset[str]]:
    """Return the pairs of sibling addresses, which decide how far an opt-out is propagated."""
    return {frozenset(pair) for contact in contacts for pair in combinations(contact.held, 2)}


def count_persons(contacts, key) -> int:
    """Return the number of contacts with this match key, without repeats of one person."""
    return sum(key in contact.held and not contact.is_repeat for contact in contacts)


@given(files, st.integers(1, 10))
def test_a_repeated_import_changes_nothing(file, limit):
    """Every row of a repeated file is recognized and adds no contact, no address and no person."""
    once = account_after(rows_of(file), limit=limit)
    kept = [(each.id, dict(each.match_keys), each.is_repeat) for each in once]
    again = rows_of(file, first=100)
    found = recognize_in(once, again, limit=limit)
    assert set(found.matches) == {row.id for row in again}
    assert not found.additions
    assert not found.counting
    assert kept == [(each.id, dict(each.match_keys), each.is_repeat) for each in once]


@given(files, st.permutations(IDS))
def test_a_repeated_import_with_ids_creates_no_siblings(file, external_ids):
    """Importing a file with ids again makes no new siblings. From the third import on, it adds no
    person either.
    """
    once = account_after(rows_of(file, external_ids=external_ids))
    siblings = sibling_pairs(once)
    twice = account_after(rows_of(file, first=100, external_ids=external_ids), once)
    assert sibling_pairs(twice) == siblings
    counts = {key: count_persons(twice, key) for key in KEYS}
    thrice = account_after(rows_of(file, first=200, external_ids=external_ids), twice)
    assert sibling_pairs(thrice) == siblings
    assert {key: count_persons(thrice, key) for key in KEYS} == counts


@given(files, st.permutations(range(6)), st.integers(1, 10))
def test_siblings_do_not_depend_on_the_order_of_rows(file, order, limit):
    """Two addresses are siblings exactly if one row has both, however rows were recognized. No
    stranger becomes a sibling.
    """
    reordered = [file[n] for n in order if n < len(file)]
    expected = {frozenset(pair) for _, _, keys in file for pair in combinations(keys, 2)}
    assert sibling_pairs(account_after(rows_of(file), limit=limit)) == expected
    assert sibling_pairs(account_after(rows_of(reordered), limit=limit)) == expected


@given(files, st.permutations(IDS), st.integers(1, 3), st.sampled_from([2, 1_000]))
def test_rows_in_one_chunk_see_what_the_rows_before_them_made(file, external_ids, limit, most):
    """Rows that are recognized together give the contacts that they give one at a time."""
    rows = rows_of(file, external_ids=external_ids)
    limits = {"limit": limit, "max_contacts": most}
    one_at_a_time: list[ContactCandidate] = []
    for each in rows:
        one_at_a_time = account_after([each], deepcopy(one_at_a_time), **limits)
    assert account_after(rows, **limits) == one_at_a_time


@given(files)
def test_each_set_of_addresses_counts_as_at_least_one_person(file):
    """At least one of the contacts with the same addresses counts as a person, and a repeat always
    has such a twin.
    """
    contacts = account_after(rows_of(file))
    for contact in contacts:
        twins = [each for each in contacts if each.held == contact.held]
        assert sum(not each.is_repeat for each in twins) >= 1
        assert contact.is_repeat <= (len(twins) > 1)


@given(files, files)
def test_a_row_never_matches_a_contact_with_another_name(file, other_file):
    """Without ids, no row matches a contact with another given or family name."""
    before = account_after(rows_of(file))
    names = {each.id: (each.given_name, each.family_name) for each in before}
    rows = rows_of(other_file, first=100)
    found = recognize_in(before, rows)
    for row in rows:
        known = names.get(found.matches.get(row.id))
        if known is not None:
            for new, old in zip((row.given_name, row.family_name), known, strict=True):
                assert not (new and old) or new.strip().lower() == old.strip().lower()


def candidate(id_, name, *keys, external_id=None, is_repeat=False) -> ContactCandidate:
    """Return a contact of the account with these match keys."""
    return ContactCandidate(
        id_, name, None, None, external_id, is_repeat, dict(enumerate(keys, start=1))
    )


def row(id_, name, *keys, external_id=None) -> RowToRecognize:
    """Return an import row with up to three match keys."""
    return RowToRecognize(id_, name, None, None, external_id, (*keys, *[None] * (3 - len(keys))))


def named(arriving: RowToRecognize, family_name: str) -> RowToRecognize:
    """Return the row with this family name."""
    return arriving._replace(family_name=family_name)


def test_an_id_matches_a_contact_with_a_new_address_and_family_name():
    """An id of another system updates a contact that shares an address. Its family name changes,
    and a new address goes into a free field.
    """
    known = candidate(1, "Ann", "a@x.example", external_id="7")
    known.family_name = "Night"
    arriving = row(9, "Ann", "a@x.example", "b@x.example", external_id="7")
    found = recognize_in([known], [named(arriving, "Day")])
    assert found.matches == {9: 1}
    assert found.additions == [(1, 2, "b@x.example", 9)]
    assert found.updated[1].family_name == "Day"


def test_an_id_does_not_mix_up_a_couple():
    """Files that number their rows may give a couple with a shared address the same id; they stay
    two people.
    """
    known = candidate(1, "Ann", "family@x.example", "ann@x.example", external_id="1")
    arriving = row(9, "Bob", "family@x.example", "bob@x.example", external_id="1")
    assert recognize_in([known], [arriving]).matches == {}


def test_an_id_and_half_a_name_match_no_contact():
    """Without a shared address, both names must match: many people are called John."""
    known = candidate(1, "John", "j1@x.example", external_id="1")
    other = row(9, "John", "j2@x.example", external_id="1")
    assert recognize_in([known], [other]).matches == {}
    known.family_name = "Smith"
    same = named(row(9, "John", "j2@x.example", external_id="1"), "Smith")
    assert recognize_in([known], [same]).matches == {9: 1}


def test_the_same_id_with_another_name_and_address_matches_no_contact():
    """Two systems may use the same id. Another name and other addresses are another person, who is
    stored without the id.
    """
    known = candidate(1, "Ann", "a@x.example", external_id="7")
    found = recognize_in([known], [row(9, "Bob", "b@x.example", external_id="7")])
    assert not found.matches
    assert found.without_external_id == {9}


def test_two_ids_of_one_system_are_two_people():
    """With different ids, a shared address alone is not enough. With the same name as well it is:
    another system has another id for the person.
    """
    known = candidate(1, "Ann", "a@x.example", external_id="7")
    nobody = recognize_in([known], [row(9, None, "a@x.example", external_id="8")])
    assert nobody.matches == {}
    assert nobody.repeats == {9}
    same = recognize_in([known], [row(9, "ann", "a@x.example", external_id="8")])
    assert same.matches == {9: 1}


def test_a_role_address_alone_matches_no_contact():
    """The contact of an info@ address is not the person imported with it and an address of their
    own.
    """
    known = candidate(1, None, "info@x.example")
    other = candidate(2, "Bob", "info@x.example", "bob@x.example")
    arriving = row(9, None, "info@x.example", "ann@x.example")
    assert recognize_in([known, other], [arriving], limit=1).matches == {}
    assert recognize_in([known, other], [arriving], limit=2).matches == {9: 1}


def test_an_address_of_many_contacts_recognizes_none():
    """A contact is not looked for among more than `max_contacts` contacts of one address, but it
    is recognized by another address.
    """
    known = [candidate(n, None, "a@x.example", f"b{n}@x.example") for n in (1, 2)]
    assert recognize_in(known, [row(9, None, "a@x.example")], max_contacts=1).matches == {}
    assert recognize_in(known, [row(9, None, "b2@x.example")], max_contacts=1).matches == {9: 2}


def test_a_full_contact_gets_no_further_address():
    """A contact has three fields; a row with a fourth address becomes a new contact."""
    known = candidate(1, "Ann", "a@x.example", "b@x.example", "c@x.example", external_id="7")
    found = recognize_in([known], [row(9, "Ann", "a@x.example", "d@x.example", external_id="7")])
    assert found.matches == {}


@given(
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(KEYS), min_size=1),
    st.lists(st.one_of(st.none(), st.sampled_from(KEYS)), min_size=3, max_size=3),
    st.sampled_from([None, "7"]),
)
@example({1: KEYS[0], 2: KEYS[0]}, KEYS[:3], None)
@example({1: KEYS[0], 2: KEYS[0]}, KEYS[:3], "7")
def test_an_address_in_several_fields_takes_each_of_them(match_keys, wanted, external_id):
    """A contact that holds one address in several fields gets only as many addresses as it has
    free fields. The row becomes a new contact if it has more.
    """
    known = ContactCandidate(1, "Ann", None, None, external_id, False, dict(match_keys))
    found = recognize_in(
        [known], [RowToRecognize(9, "Ann", None, None, external_id, tuple(wanted))]
    )
    added = {each.field for each in found.additions}
    assert len(added) == len(found.additions)
    assert not added & match_keys.keys()
    if found.matches:
        assert {key for key in wanted if key} <= known.held


def test_a_repeat_counts_when_its_twin_gets_another_address():
    """If one of two contacts with the same addresses gets another one, both count."""
    numbers = count(1)
    ann = candidate(next(numbers), "Ann", "a@x.example")
    bob = candidate(next(numbers), "Bob", "a@x.example", is_repeat=True)
    found = recognize_in([ann, bob], [row(9, "Ann", "a@x.example", "b@x.example")])
    assert found.counting == {bob.id}


def test_a_row_has_only_its_own_addresses():
    """A row becomes a contact, and a later row adds an address to it. `fields` says which addresses
    the first row has.
    """
    found = recognize_in(
        [], [row(8, "Ann", "a@x.example"), row(9, "Ann", "a@x.example", "b@x.example")]
    )
    assert found.matches == {9: 8}
    assert found.fields == {8: {1}, 9: {1, 2}}
