"""Hooks that receive forms: a body with an address of the recipient opts the recipient out."""

import hashlib
import itertools
import json
import re

import pytest
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.kit.factories import fill, statuses_of
from tests.kit.hook_messages import FORM, event, post_events, refusals
from tests.kit.property_examples import check_property
from tests.kit.recipients import (
    ANN,
    BOB,
    FAMILY,
    OPEN,
    problem_detail,
    read_everything,
)

# Forms


async def test_a_keap_form_opts_out_both_addresses(http, pool, hook, accounts):
    """Keap's form opts out both addresses, whatever other fields it has. The shared address does
    not propagate the opt-out to the other contact.
    """
    answer = await http.post(
        hook.form_path,
        data={
            "contactId": "4711",
            "FirstName": "Ann\x00",
            "Email": f" {ANN} ",
            "EmailAddress2": "Ann@Work.example",
            "EmailAddress3": "",
        },
    )
    assert (answer.status_code, answer.json()) == (
        200,
        {"applied": True, "created": True, "rejected_fields": []},
    )
    assert await statuses_of(pool, accounts["default"]) == {
        ANN: ("manual", False),
        "ann@work.example": ("manual", False),
        FAMILY: ("manual", True),
        BOB: OPEN,
    }
    assert set((await statuses_of(pool, accounts["other"])).values()) == {OPEN}
    row = await pool.fetchrow("select params, requested_by from jobs")
    assert row["params"] == {"kind": "manual", "source": "keap", "note": "contact 4711 of keap"}
    assert row["requested_by"] == f"hook {hook.id} (keap)"
    assert "FirstName" not in str(dict(await pool.fetchrow("select * from jobs")))


@pytest.mark.parametrize("name", ["email", "Email", "EMAIL1", "email3", "EmailAddress", "address"])
async def test_field_names_of_senders_are_accepted(http, pool, hook, accounts, name):
    """Each of the field names that senders use for an address is accepted."""
    assert (await http.post(hook.form_path, data={name: ANN})).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


async def test_a_form_may_have_a_kind(http, pool, hook, accounts):
    """`kind` sets the kind of the opt-out; the default is manual."""
    await http.post(hook.form_path, data={"email": ANN, "kind": "spam"})
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("spam", False)


async def test_a_repeated_form_is_one_job_a_day(http, pool, hook, accounts):
    """Keap sends no event id, and repeats a request without an answer. The same form on one day is
    one job.
    """
    data = {"email": ANN, "email2": FAMILY, "contactId": "7"}
    answers = [(await http.post(hook.form_path, data=data)).json() for _ in range(2)]
    assert [answer["created"] for answer in answers] == [True, False]
    assert [answer["applied"] for answer in answers] == [True, True]
    for other in (
        {"email": BOB},
        {"email": ANN},
        data | {"contactId": "8"},
        data | {"kind": "spam"},
    ):
        assert (await http.post(hook.form_path, data=other)).json()["created"]
    (key,) = await pool.fetchrow("select idempotency_key from jobs order by id limit 1")
    assert "example" not in key


async def test_a_form_with_an_event_id_is_one_job(http, pool, hook, accounts):
    """With an event id the same event is one job, and another address with it is a conflict."""
    first = {"email": ANN, "event_id": "17"}
    for created in (True, False):
        assert (await http.post(hook.form_path, data=first)).json()["created"] is created
    before = await read_everything(pool)
    answer = await http.post(hook.form_path, data={"email": BOB, "event_id": "17"})
    detail = problem_detail(answer, 409, "idempotency-key-reused")
    assert not re.search(r"job|example", detail)
    assert await read_everything(pool) == before


async def test_an_invalid_field_does_not_prevent_the_opt_out(http, pool, hook, accounts):
    """An invalid value in another field does not prevent the opt-out."""
    answer = await http.post(hook.form_path, data={"email": "n/a", "email2": ANN, "address": "?"})
    assert answer.json() == {
        "applied": True,
        "created": True,
        "rejected_fields": ["email", "address"],
    }
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


FORMS_WITHOUT_OPT_OUT = (
    (b"", "no recipient's address"),
    (b"name=Ann", "no recipient's address"),
    (b"email=", "no recipient's address"),
    (b"email=nobody", "not an email address"),
    (b"email=a%00%40x.example", "not an email address"),
    (b"email=%ffann%40x.example", "not an email address"),
    (b"email=%ff%40x.example", "not an email address"),
    (b"owner_email=ann%40x.example&reply_to=ann@x.example", "owner_email, reply_to"),
    (b'{"user": {"email": "ann@x.example"}}', "user.email"),
    (b'{"email": "ann @x.example"}', "not an email address"),
    (b"email=a\xe9b@x.example", "name the charset"),
    (b"[" * 100_000, "no recipient's address"),
    (b"\xff\xfe\x00", "no recipient's address"),
    (b"email=" + b",".join(b"a%d@x.example" % n for n in range(60)), "a few addresses"),
    (b"&".join(b"email=a%d@x.example" % n for n in range(300)), "not one person's"),
)


async def test_a_form_without_an_opt_out_changes_nothing(http, pool, hook, accounts):
    """The error says what is missing, and the log has the refusal."""
    before = await read_everything(pool)
    for body, expected in FORMS_WITHOUT_OPT_OUT:
        with capture_logs() as logs:
            answer = await http.post(hook.form_path, content=body, headers=FORM)
        assert expected in problem_detail(answer, 422, "invalid"), body
        assert await read_everything(pool) == before
        assert refusals(logs) == [(hook.id, "malformed")]


MANY_FIELDS = b"&".join(b"field%d=value" % n for n in range(5_000))

UNUSUAL_FORMS = (
    (b"email=ann%40x.example&event_id=%00", "manual"),
    (b"email=ann%40x.example&event_id=%ff", "manual"),
    (b"email=ann%40x.example&event_id=" + b"x" * 300, "manual"),
    (b"email=ann%40x.example&contactId=%00%ff", "manual"),
    (b"email=ann%40x.example&kind=admin", "manual"),
    (b"email=ann%40x.example&kind=" + b"x" * 300, "manual"),
    (b"email=ann%40x.example&kind=Spam+", "spam"),
    (b"email=ann%40x.example&Kind=List-Unsubscribe", "list_unsubscribe"),
    (b"email=ann%40x.example&kind=x&kind=manual&kind=FEEDBACK", "feedback"),
    (MANY_FIELDS + b"&email=ann@x.example", "manual"),
    (b"email=ann@x.example&" + MANY_FIELDS, "manual"),
    (b"name=Jos\xe9&city=%fc&email=ann@x.example&%ff=%ff", "manual"),
    (b"&&=&email=ann@x.example&x&=y\r\n", "manual"),
    (b"email=Ann+Other+%3Cann%40x.example%3E", "manual"),
    (b"email=mailto:ann@x.example%3Fsubject%3Dunsubscribe", "manual"),
    (b"email=ann%2540x.example", "manual"),
    (b"email='ann@x.example'&email=%22", "manual"),
    (b"name=Ann\nemail=ann@x.example\n", "manual"),
    (b'{"email": "ann@x.example", "kind": "spam"}', "spam"),
    (b'\xef\xbb\xbf {"contact": {"id": 7, "email": "ann@x.example"}}', "manual"),
    (b'[{"fields": {"email": {"value": "ann@x.example"}}, "email": null}]', "manual"),
    (b'{"email": "n/a", "email": "ann@x.example"}', "manual"),
    ('{"email": "ann@x.example"}'.encode("utf-16"), "manual"),
    ("email=ann@x.example".encode("utf-16"), "manual"),
    (b"ann@x.example\n", "manual"),
    (b"Email: ann@x.example", "manual"),
    (b"email%3Dann%40x.example", "manual"),
    (b'{"email": "ann@x.example", "name": "Jos\xe9", "kind": "spam", "note": "\t"}', "spam"),
    (b'payload={"email":"ann@x.example","kind":"spam"}', "spam"),
    (b"email=ann@x.example&unsubscribe_email=list%2Bunsubscribe@y.example", "manual"),
)

CONTENT_TYPES = ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "x", "")


async def test_unusual_forms_are_applied(http, pool, hook, accounts):
    """Such a form is applied, whatever its Content-Type and its other content."""
    numbers = itertools.count()
    for (body, kind), content_type in itertools.product(UNUSUAL_FORMS, CONTENT_TYPES):
        number = next(numbers)
        event_id = f"event{number}x".encode()
        # Each form gets its own recipient.
        own_body = body.replace(b"x.example", f"x{number}.example".encode())
        own_body = own_body.replace(
            "x.example".encode("utf-16-le"), f"x{number}.example".encode("utf-16-le")
        )
        own_body = own_body.replace(b"event_id=", b"event_id=" + event_id)
        headers = {"Content-Type": content_type} if content_type else {}
        answers = [await http.post(hook.form_path, content=own_body, headers=headers) for _ in "12"]
        answered = [(answer.status_code, answer.json().get("created")) for answer in answers]
        assert answered == [(200, True), (200, False)], (body, content_type, answers[0].text)
        statuses = await statuses_of(pool, accounts["default"])
        assert statuses[f"ann@x{number}.example"] == (kind, False), (body, content_type)
    assert (await statuses_of(pool, accounts["default"]))[ANN] == OPEN


HEAD = 'Content-Disposition: form-data; name="email"'

FILE = 'Content-Disposition: form-data; filename="e.txt"; name="Email"\r\nContent-Type: text/plain'

PARTS = (
    (f"--b\r\n{HEAD}\r\n\r\n{ANN}\r\n--b--\r\n", "b"),
    (f"--b\nContent-Disposition: form-data; name=email\n\n{ANN}\n", "b"),
    (f"--b\r\n{HEAD}\r\n\r\n{ANN}", "other"),
    (f"--b\r\n{FILE.replace('Email', 'x')}\r\n\r\nx\r\n--b\r\n{FILE}\r\n\r\n{ANN}\n\r\n--b--", "b"),
    (f"--b\r\n{HEAD}\r\n\r\nAnn--b <{ANN}>\r\n--b--", "b"),
)


async def test_incomplete_multipart_is_accepted(http, pool, hook, accounts):
    """Files, a missing or wrong boundary and a truncated body are accepted."""
    types = ("multipart/form-data; boundary={}", 'multipart/form-data; boundary="{}"', "x", "")
    for number, ((body, boundary), content_type) in enumerate(itertools.product(PARTS, types)):
        own_body = body.replace("x.example", f"x{number}.example").encode()
        headers = {"Content-Type": content_type.format(boundary)} if content_type else {}
        answer = await http.post(hook.form_path, content=own_body, headers=headers)
        assert answer.status_code == 200, (body, content_type, answer.text)
        statuses = await statuses_of(pool, accounts["default"])
        assert statuses[f"ann@x{number}.example"] == ("manual", False)


PLUS_SIGNS = (
    (b"email=eve+news@example.com", "eve+news@example.com", True),
    (b"email=eve news@example.com", "eve+news@example.com", True),
    (b"email=eve+news%40example.com", "eve+news@example.com", True),
    (b"email=eve+news+2024@example.com", "eve+news+2024@example.com", True),
    (b"email=eve%2Bnews%40example.com", "eve+news@example.com", False),
    (b"email=eve%252Bnews%2540example.com", "eve+news@example.com", False),
    (b"email=+eve@example.com", "eve@example.com", False),
    (b"email=Eve+News+eve@example.com", "eve@example.com", True),
    (b"email=+eve%40example.com+", "eve@example.com", False),
    (b"email=eve@example.com+", "eve@example.com", False),
    (b"email=Eve+News+<eve+news@example.com>", "eve+news@example.com", True),
    (b'{"email": "eve+news@example.com"}', "eve+news@example.com", False),
)


async def test_a_plus_sign_decoded_as_a_space_is_restored(http, pool, hook):
    """Some senders do not encode a plus sign. A local part has no space, so a space is read as a
    plus sign.
    """
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    for number, (body, address, is_adjusted) in enumerate(PLUS_SIGNS):
        own_body = body.replace(b"example.com", f"example{number}.com".encode())
        answer = await http.post(hook.form_path, content=own_body, headers=FORM)
        assert answer.status_code == 200, (body, answer.text)
        adjusted = answer.json().get("adjusted", [])
        assert [text.partition(":")[0] for text in adjusted] == ["address"] * is_adjusted, body
        statuses = await statuses_of(pool, account_id)
        assert statuses[address.replace("example.com", f"example{number}.com")] == ("manual", False)
        assert len(statuses) == len({ANN, BOB, FAMILY}) + number + 1


AMBIGUOUS = (
    ("email=eve news@{}", ["news"], "news"),
    ("email=eve+news@{}", ["news", "eve+news"], "eve+news"),
    ("email=Ada Lovelace ada@{}", ["lovelace+ada"], "lovelace+ada"),
    ("email=Ada Lovelace ada@{}", [], "ada"),
    ("email='ada@{}", ["'ada", "ada"], "'ada"),
    ("email=4711|ada@{}", [], "ada"),
    ("email=x=ada@{}", ["ada"], "ada"),
    ("email=x=ada@{}", [], "x=ada"),
    ("email=ada news@{0}&email2=ada%2Bnews@{0}", ["news"], "ada+news"),
    ('payload={{"email": "ada+news@{}"}}', ["news"], "news"),
)


async def test_known_addresses_resolve_an_ambiguous_form(http, pool, hook, other_hook, accounts):
    """The account's own addresses resolve an ambiguous text, and other accounts' addresses do not.
    The answer discloses nothing, and a repeated message is read in the same way.
    """
    ambiguous = enumerate(itertools.product(AMBIGUOUS, ("", "&event_id=e{}")))
    for number, ((form, known, expected), event_id) in ambiguous:
        domain = f"m{number}.example"
        body = (form.format(domain) + event_id.format(number)).encode()
        own, foreign = accounts["default"], accounts["other"]
        await fill(pool, own, {}, {f"{local}@{domain}": OPEN for local in known})
        await fill(pool, foreign, {}, {f"news@{domain}": OPEN})
        before = set(await statuses_of(pool, foreign))
        answers = [await http.post(hook.form_path, content=body, headers=FORM) for _ in "12"]
        answered = [(answer.status_code, answer.json()["created"]) for answer in answers]
        assert answered == [(200, True), (200, False)], (body, answers[0].text)
        statuses = await statuses_of(pool, own)
        manual = {each for each, (status, _) in statuses.items() if status == "manual"}
        assert {each for each in manual if each.endswith(domain)} == {f"{expected}@{domain}"}, body
        assert set(await statuses_of(pool, foreign)) == before
        other_answer = await http.post(other_hook.form_path, content=body, headers=FORM)
        assert other_answer.json() == answers[0].json()


async def test_a_later_contact_replaces_a_guess(http, pool, hook, accounts):
    """If another reading becomes the address of a contact later, the same message opts out that
    address.
    """
    account_id, body = accounts["default"], b"email=Eva+maria@later.example"
    await http.post(hook.form_path, content=body, headers=FORM)
    assert (await statuses_of(pool, account_id))["eva+maria@later.example"] == ("manual", False)
    await fill(pool, account_id, {77: {1: "maria@later.example"}}, {"maria@later.example": OPEN})
    answer = await http.post(hook.form_path, content=body, headers=FORM)
    assert answer.json()["created"]
    assert (await statuses_of(pool, account_id))["maria@later.example"] == ("manual", False)


EVENTS_IN_FORMS = (
    [{"email": "a@{}", "kind": "spam"}, {"email": "b@{}"}, {"type": "ping"}],
    [{"msg": {"email": "a@{}"}, "kind": "spam"}, {"email": ["b@{}"], "owner": {"email": ANN}}],
)


async def test_each_event_in_a_form_is_applied_once(http, pool, hook, accounts):
    """Each event of a JSON field, as Mandrill sends it, or of a JSON body is applied once."""
    for number, (events, is_body) in enumerate(itertools.product(EVENTS_IN_FORMS, (True, False))):
        text = json.dumps(events).replace("@{}", f"@v{number}.example")
        arguments = {"content": text} if is_body else {"data": {"mandrill_events": text}}
        answers = [await http.post(hook.form_path, **arguments) for _ in "12"]
        assert [answer.json() for answer in answers] == [
            {"applied": True, "created": created, "rejected_fields": []}
            for created in (True, False)
        ]
        statuses = await statuses_of(pool, accounts["default"])
        assert statuses[f"a@v{number}.example"] == ("spam", False)
        assert statuses[f"b@v{number}.example"] == ("manual", False)
        assert statuses[ANN] == OPEN
    assert await pool.fetchval("select count(*) from jobs") == 2 * (number + 1)


async def test_a_reused_event_id_in_a_form_is_a_conflict(http, pool, hook, accounts):
    """An event with a reused id is rejected, and the other events of the form are applied."""
    await http.post(hook.form_path, data={"email": BOB, "event_id": "17"})
    events = [{"email": ANN, "event_id": "17"}, {"email": "new@x.example"}, {"email": "n/a"}]
    answer = await http.post(hook.form_path, data={"data": json.dumps(events)})
    problem_detail(answer, 409, "idempotency-key-reused")
    assert answer.json()["event_ids"] == ["17"]
    statuses = await statuses_of(pool, accounts["default"])
    assert (statuses[ANN], statuses["new@x.example"]) == (OPEN, ("manual", False))


async def test_an_unknown_kind_is_reported_and_logged(http, pool, hook, accounts):
    """An unknown kind counts as manual. The answer and the log name it, so that the sender can be
    corrected.
    """
    with capture_logs() as logs:
        answer = await http.post(hook.form_path, data={"email": ANN, "kind": "complained"})
    assert answer.json()["adjusted"] == ["kind: it is not known, and counts as manual"]
    (line,) = [line for line in logs if line["event"] == "hook.adjusted"]
    assert (line["hook"], line["parts"]) == (hook.id, ["kind"])


async def test_the_log_line_of_a_request_has_its_hook(http, settings, hook, other_hook, accounts):
    """The log line has the hook and its account, whatever the answer. Without a valid token or
    signature it has neither.
    """
    with capture_logs() as logs:
        await http.post(hook.form_path, data={"email": ANN})
        await http.post(hook.form_path, data={"email": "nobody"})
        await post_events(http, other_hook, event(address=BOB))
        await http.post(hook.form_path + "A", data={"email": ANN})
        await http.post(hook.events_path, json=event())
    answered = [line for line in logs if line["event"] == "request.answered"]
    own, foreign = (hook.id, accounts["default"]), (other_hook.id, accounts["other"])
    assert [(line["http_status"], line.get("hook"), line["account"]) for line in answered] == [
        (200, *own),
        (422, *own),
        (200, *foreign),
        (404, None, None),
        (401, None, None),
    ]
    assert [line["key"] for line in answered] == [None] * 5


async def test_long_event_ids_are_distinct(http, pool, hook, accounts):
    """Long ids are separate events, even if they differ only at the end or look like a digest."""
    prefix = "x" * 300
    digest = "sha256:" + hashlib.sha256(f"{prefix}1".encode()).hexdigest()
    for event_id in (f"{prefix}1", f"{prefix}2", digest, "\x00", "\x01"):
        form = {"email": f"a{len(event_id)}{event_id[-1:].encode().hex()}@x.example"}
        form["event_id"] = event_id
        for created in (True, False):
            answer = await http.post(hook.form_path, data=form)
            assert (answer.status_code, answer.json()["created"]) == (200, created)


async def test_all_addresses_of_a_form_are_opted_out(http, pool, hook, accounts):
    """All addresses of a form are opted out, also several in one field or under one name. Values
    that are no addresses are reported.
    """
    body = b"email=ann@x.example%2Cb%40x.example%3B+c@x.example&email=d@x.example, nobody@"
    answer = await http.post(hook.form_path, content=body, headers=FORM)
    assert answer.json() == {"applied": True, "created": True, "rejected_fields": ["email"]}
    statuses = await statuses_of(pool, accounts["default"])
    assert {statuses[f"{name}@x.example"] for name in "bcd"} | {statuses[ANN]} == {
        ("manual", False)
    }


async def test_junk_around_an_address_does_not_matter(http, pool, hook, accounts):
    """Other fields of any names and bytes neither prevent the opt-out nor cause another one."""
    numbers = itertools.count()

    async def require_opt_out(before, after, name, encode):
        address = f"junk+{next(numbers)}@y.example"
        text = address if encode == "not at all" else address.replace("@", "%40")
        if encode == "wholly":
            text = text.replace("+", "%2B")
        body = b"&".join([*before, f"{name}={text}".encode(), *after])
        answer = await http.post(hook.form_path, content=body, headers=FORM)
        assert answer.status_code == 200, answer.text
        assert await pool.fetchval(
            "select status = 'manual' from email_addresses where match_key = $1", address
        )

    junk = st.lists(JUNK_FIELDS, max_size=5)
    names = st.sampled_from(
        ["email", "data[email]", "inf_field_Email", "Contact.Email", "E-Mail 1"]
    )
    encodings = st.sampled_from(["not at all", "the @", "wholly"])
    await check_property(require_opt_out, junk, junk, names, encodings, max_examples=60)
    addresses = await pool.fetch("select match_key from email_addresses")
    assert {row[0] for row in addresses} - {ANN, BOB, FAMILY} == {
        f"junk+{n}@y.example" for n in range(next(numbers))
    }


OTHER_ADDRESSES = st.sampled_from(
    [b"owner_email", b"from", b"sender", b"reply_to", b"account_manager[email]", b"user.email"]
).map(lambda name: name + b"=someone.else@y.example")

JUNK_FIELDS = OTHER_ADDRESSES | st.binary(max_size=30).filter(
    # Exclude bytes that happen to be an address field or to start JSON or multipart.
    lambda junk: (
        not re.search(rb"(?i)[&\r\n]|mail|address|recipient|kind|event|rcpt|^\s*[\[{-]", junk)
        and not junk.startswith((b"\xff\xfe", b"\xfe\xff"))
    )
)
