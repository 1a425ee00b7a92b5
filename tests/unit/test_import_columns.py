"""The meaning of headers, and of the cells of status columns."""

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.column_names import MEANINGS, column_meaning, mentions_consent
from producers.import_file import open_contacts
from producers.status_cells import UnknownStatus, find_suppressing_cell, parse_status
from schemas.errors import InvalidRequest
from schemas.statuses import MARKETABLE, OPTED_OUT, Status

COLUMNS = ("status", "unsubscribed", "opted_out", "opted_in", "bounced", "complained")


def read(text: str, **options):
    """Read a contact CSV; return its rows, its rejections and the file."""
    with open_contacts(io.BytesIO(text.encode()), **options) as contacts:
        blocks = list(contacts.blocks())
        return (
            [row for block in blocks for row in block.rows],
            [rejection for block in blocks for rejection in block.rejections],
            contacts,
        )


def stated(text: str, **options):
    """Return the statuses of the only row."""
    rows, rejections, contacts = read(text, **options)
    assert rejections == []
    assert contacts.columns.statuses
    return rows[0].statuses


@pytest.mark.parametrize(
    ("meaning", "headers"),
    [
        (
            "email1",
            "Email|E-mail|EMAIL ADDRESS|emailAddress|E-Mail-Adresse|Adresse e-mail|Mail",
        ),
        ("email1", "email 1|E-mail 1 - Value|Contact Email|data[email]|inf_field_Email"),
        ("email2", "Email 2|E-mail 2 Address|Email Address 2|EMAIL_ADDRESS_2|inf_field_Email2"),
        ("email3", "Email Address 3|E-mail 3"),
        ("email", "Email (Work)|Work Email|Other Email|Secondary Email|Email 4|E-mail 4 - Value"),
        ("status", "Status|Email Status|Opt In Status|Opt-Out Status|Subscription Status"),
        ("status2", "Email 2 Status|Email Address 2 Status"),
        ("unsubscribed", "Unsubscribed|unsubscribed_at|Unsubscribed on|UNSUB_TIME|Abgemeldet"),
        (
            "opted_out",
            "Opted Out|Opt-out|Email Opt Out|HasOptedOutOfEmail|Do not email|Do Not Contact",
        ),
        (
            "opted_in",
            "Opt in|Opted In|Subscribed|Newsletter|Marketing Consent|Accepts Email Marketing",
        ),
        ("bounced", "Bounced|Hard bounced|Email Bounced"),
        ("complained", "Complained|Spam|Spam complaint"),
        ("external_id", "Id|Contact Id|ContactId|contact_id"),
        ("ignore", "OPTIN_TIME|Mailing Street|E-mail Display Name|E-mail 2 Type"),
    ],
)
def test_headers_have_their_meaning(meaning, headers):
    """Names are recognized in the spellings of other systems, without case, blanks
    and punctuation.
    """
    assert {header: column_meaning(header) for header in headers.split("|")} == dict.fromkeys(
        headers.split("|"), meaning
    )
    assert meaning in MEANINGS


@pytest.mark.parametrize(
    "header",
    [
        *("Account Manager Email", "Owner's e-mail", "Email Hash", "Email Source", "Lead Status"),
        *("Opt", "Bounce Count", "Unsubscribe Reason", "GDPR basis", "Suppression"),
        "Do not mail by post",
        *("Blocked", "Sendable", "Zustimmung", "Werbesperre", "Kein Kontakt"),
    ],
)
def test_columns_about_consent_must_be_mapped(header):
    """An unknown column that may be about mail or consent must be mapped."""
    assert column_meaning(header) is None
    assert mentions_consent(header)
    with pytest.raises(InvalidRequest, match="may be about mail or consent"):
        read(f"Email,{header}\na@x.example,1\n")
    rows, _, contacts = read(f"Email,{header}\na@x.example,1\n", mapping={header: "ignore"})
    assert len(rows) == 1
    assert contacts.columns.ignored == (header,)


@pytest.mark.parametrize(
    "header", ["Notes", "Phone", "Address", "Option", "Account Manager", "City"]
)
def test_other_columns_are_ignored_and_reported(header):
    """Ignored columns are listed, so that no column is dropped silently."""
    assert not mentions_consent(header)
    _, _, contacts = read(f"Email,{header}\na@x.example,1\n")
    assert contacts.columns.ignored == (header,)
    assert not contacts.columns.statuses


@given(st.text(max_size=300))
def test_any_header_is_parsed_quickly(header):
    """No column name takes long to parse."""
    began = time.process_time()
    column_meaning.__wrapped__(header * 10)
    mentions_consent(header * 10)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("word", ["email", "work", "contact", "optin", "marketing", "unsubscribed"])
def test_a_header_of_repeated_known_words_is_parsed_quickly(word):
    """A header that repeats known words does not cause a long search."""
    began = time.process_time()
    for number in range(1, 200 // len(word)):
        column_meaning.__wrapped__(word * number + "-")
        column_meaning.__wrapped__(word * number + "x")
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("status", Status)
def test_keaps_statuses_are_recognized_in_any_spelling(status):
    """Keap's statuses are recognized as its API and its screens write them."""
    for text in (status.value, status.value.replace("_", " ").title(), status.value.upper()):
        assert parse_status(text, "status") is status


@pytest.mark.parametrize(
    ("column", "cell", "status"),
    [
        ("status", "Non-Marketable", "non_marketable"),
        ("status", "Opt-Out: Admin", "admin"),
        ("status", "Opt-Out: Manual", "manual"),
        ("status", "Double Opt-In", "double_opt_in"),
        ("status", "Unsubscribed", "manual"),
        ("status", "cleaned", "hard_bounce"),
        ("status", "Subscribed", None),
        ("status", "Unconfirmed", "non_marketable"),
        ("status", "", None),
        ("unsubscribed", "yes", "manual"),
        ("unsubscribed", " X ", "manual"),
        ("unsubscribed", "1", "manual"),
        ("unsubscribed", "ja", "manual"),
        ("unsubscribed", "2024-03-01 10:00:00", "manual"),
        ("unsubscribed", "3/1/2024", "manual"),
        ("unsubscribed", "1. März 2024", "manual"),
        ("unsubscribed", "Mar 1, 2024", "manual"),
        ("unsubscribed", "0000-00-00 00:00:00", None),
        ("unsubscribed", "no", None),
        ("unsubscribed", "FALSE", None),
        ("unsubscribed", "0", None),
        ("unsubscribed", "Subscribed", None),
        ("unsubscribed", "Unsubscribed", "manual"),
        ("opted_out", "true", "admin"),
        ("opted_in", "no", "admin"),
        ("opted_in", "yes", None),
        ("opted_in", "2024-03-01", None),
        ("opted_in", "", "non_marketable"),
        ("opted_in", "Double Opt-In", None),
        ("bounced", "y", "hard_bounce"),
        ("bounced", "soft", "bounce"),
        ("complained", "yes", "feedback"),
    ],
)
def test_cells_state_a_status(column, cell, status):
    """An opt-out is read in any spelling. Only Keap's cells state consent."""
    assert parse_status(cell, column) == status


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("cell", ["maybe", "??", "2", "Customer", "yes, but", "13.5"])
def test_an_unknown_status_rejects_the_row(column, cell):
    """A row with an unknown status is rejected; consent is never assumed."""
    with pytest.raises(UnknownStatus):
        parse_status(cell, column)
    rows, rejections, _ = read(f'Email,X\na@x.example,"{cell}"\n', mapping={"X": column})
    assert rows == []
    assert [(rejection.line, rejection.reason.value) for rejection in rejections] == [
        (2, "unknown_status")
    ]


SUPPRESSING = [
    *("Unsubscribed", "unsubscribes", "Opted out", "Opt-Out: Manual", "Do not email", "Spam"),
    *("Hard bounce", "Spam complaint", "not subscribed", "No longer subscribed", "STOP EMAILS"),
    *("asked to be unsubscribed", "Suppression list", "Abgemeldet", "consent withdrawn"),
    *("Blacklist", "Non-Marketable", "do not mail her", "Opt-in: no", "consent: no", "no mailing"),
    *("Do not send", "DNC", "lockdown", "Cleaned", "Widerrufen", "uitgeschreven", "baja"),
    "The customer asked us on the phone last March to please unsubscribe her from everything.",
]
WRITINGS = [str, str.upper, str.lower, " {} ".format, "({})".format]


@given(
    st.sampled_from(["Type", "State", "List", "Reason", "Notes", "Email Type", "Optin Time"]),
    st.sampled_from(SUPPRESSING),
    st.sampled_from(WRITINGS),
)
def test_an_opt_out_in_an_unread_column_rejects_the_row(header, cell, writing):
    """Otherwise a claimed permission would opt the address in. A mapping states the column's
    meaning.
    """
    text = f'Email,{header}\na@x.example,"{writing(cell)}"\nb@x.example,Customer\n'
    rows, rejections, _ = read(text)
    assert [row.line for row in rows] == [3]
    assert [(rejection.line, rejection.reason.value) for rejection in rejections] == [
        (2, "unknown_status")
    ]
    assert header in rejections[0].detail
    rows, rejections, _ = read(text, mapping={header: "ignore"})
    assert (len(rows), rejections) == (2, [])


@pytest.mark.parametrize("text", SUPPRESSING)
def test_words_of_suppression_are_found_among_other_cells(text):
    """Words of suppression are found anywhere in a cell, not only alone."""
    assert find_suppressing_cell(["", "Berlin", text, "Customer"]) == text


@pytest.mark.parametrize("status", sorted(OPTED_OUT))
def test_an_unambiguous_status_is_found_in_any_column(status):
    """Words for an opt-out are found in any column; `manual` or `system` alone are ambiguous."""
    found = find_suppressing_cell([status.value]) is not None
    assert found == (status not in {Status.ADMIN, Status.MANUAL, Status.FEEDBACK})


@pytest.mark.parametrize("tags", ["Unsubscribed", "vip,Do not email", "Opted out; vip", "DNC"])
def test_a_tag_about_an_opt_out_rejects_the_row(tags):
    """Some exports store opt-outs as tags. A tag about something else as well stays a tag."""
    _, rejections, _ = read(f'Email,Tags\na@x.example,"{tags}"\n')
    assert [(rejection.line, rejection.reason.value) for rejection in rejections] == [
        (2, "unknown_status")
    ]
    rows, rejections, _ = read('Email,Tags\na@x.example,"vip,unsubscribed from a webinar"\n')
    assert (rows[0].tags, rejections) == (("vip", "unsubscribed from a webinar"), [])


@pytest.mark.parametrize(
    "cell",
    [
        *("Customer", "unknown", "pending", "opt-in", "Subscribed", "Bounce House Ltd", "manual"),
        *("The Outlet", "system", "blocked", "Not a member", "contact us", "optician"),
        *("x" * 2_000, "There was no contact with her lawyer since then.", "stop by", "send post"),
    ],
)
def test_other_texts_in_unread_columns_reject_nothing(cell):
    """Only text about consent rejects a row."""
    assert find_suppressing_cell([cell, "", cell]) is None


@given(st.sampled_from(COLUMNS[1:]), st.text(max_size=10))
def test_a_yes_or_no_column_states_no_consent(column, cell):
    """No cell of a yes-or-no column makes an address marketable."""
    try:
        status = parse_status(cell, column)
    except UnknownStatus:
        return
    assert status is None or status not in MARKETABLE


def test_a_persons_opt_out_applies_to_all_addresses():
    """A person's column applies to all addresses of the row; a field's column applies to that
    field.
    """
    both = "Email,Email (Work),{}\na@x.example,b@x.example,{}\n"
    assert stated(both.format("Unsubscribed", "yes")) == ("manual", "manual", None)
    assert stated(both.format("Status", "Non-Marketable"))[:2] == ("non_marketable",) * 2
    assert stated(both.format("Status", "Hard bounce")) == ("hard_bounce", None, None)
    assert stated(both.format("Email 2 Status", "Hard bounce")) == (None, "hard_bounce", None)
    assert stated(both.format("Unsubscribed", "no")) is None


def test_the_status_of_higher_rank_is_used():
    """Of two status columns, in any order, the status of higher rank is used."""
    for headers in (("Status", "Spam"), ("Spam", "Status")):
        cells = {"Status": "Double Opt-In", "Spam": "yes"}
        text = f"Email,{','.join(headers)}\na@x.example,{','.join(cells[h] for h in headers)}\n"
        assert stated(text) == ("feedback", None, None)


@pytest.mark.parametrize("second", ["A@X.example", "nobody", ""])
@pytest.mark.parametrize("status", sorted(OPTED_OUT))
def test_an_opt_out_is_not_lost_with_its_address(second, status):
    """If the field's address is invalid, the person's other address is opted out."""
    rows, _, _ = read(f"Email,Email 2,Email 2 Status\na@x.example,{second},{status}\n")
    assert rows[0].statuses == (status, None, None)


def test_more_than_three_addresses_reject_the_row():
    """A row with more than three addresses is rejected; a repeated address counts once."""
    header = "Email,Work Email,Home Email,Other Email\n"
    rows, rejections, _ = read(
        header
        + "a@x.example,b@x.example,c@x.example,d@x.example\n"
        + "a@x.example,,c@x.example,d@x.example\n"
        + "a@x.example,b@x.example,c@x.example,B@x.example\n"
    )
    assert [[each and each.address[0] for each in row.addresses] for row in rows] == [
        ["a", "d", "c"],
        ["a", "b", "c"],
    ]
    assert [(rejection.line, rejection.reason.value) for rejection in rejections] == [
        (2, "too_many_addresses"),
        (4, "repeated_in_row"),
    ]


def test_an_additional_id_column_is_ignored():
    """An additional id column is ignored and reported."""
    rows, _, contacts = read("Id,Contact Id,Email\n1,2,a@x.example\n")
    assert rows[0].external_id == "2"
    assert contacts.columns.ignored == ("Id",)


def test_the_contacts_id_is_kept():
    """The id is kept as text without surrounding blanks. An id that is too long is
    dropped alone.
    """
    rows, rejections, _ = read(
        f"Id,Email\n 0042 ,a@x.example\n,b@x.example\n{'9' * 201},c@x.example\n"
    )
    assert [row.external_id for row in rows] == ["0042", None, None]
    assert [rejection.reason.value for rejection in rejections] == ["id_too_long"]
