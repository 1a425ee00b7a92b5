"""Hooks that receive forms: any body with an address of the recipient opts out."""

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


async def test_what_keap_posts_opts_out_both_addresses(http, pool, hook, accounts):
    """With whatever else an automation sends along; his address is not reached through theirs."""
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
async def test_the_operator_chooses_the_fields_name(http, pool, hook, accounts, name):
    """Among the names that senders give an address."""
    assert (await http.post(hook.form_path, data={name: ANN})).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


async def test_the_form_may_say_how(http, pool, hook, accounts):
    """By `kind`, which is manual unless it is given."""
    await http.post(hook.form_path, data={"email": ANN, "kind": "spam"})
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("spam", False)


async def test_a_form_that_comes_again_is_one_job_a_day(http, pool, hook, accounts):
    """Keap sends no id of what happened, and posts again when no answer came."""
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


async def test_the_senders_own_id_counts_where_there_is_one(http, pool, hook, accounts):
    """The same event is one job, and with another address it is refused."""
    first = {"email": ANN, "event_id": "17"}
    for created in (True, False):
        assert (await http.post(hook.form_path, data=first)).json()["created"] is created
    before = await read_everything(pool)
    answer = await http.post(hook.form_path, data={"email": BOB, "event_id": "17"})
    detail = problem_detail(answer, 409, "idempotency-key-reused")
    assert not re.search(r"job|example", detail)
    assert await read_everything(pool) == before


async def test_a_field_without_an_address_does_not_keep_the_others(http, pool, hook, accounts):
    """An opt-out is not lost for what somebody has typed into a second field."""
    answer = await http.post(hook.form_path, data={"email": "n/a", "email2": ANN, "address": "?"})
    assert answer.json() == {
        "applied": True,
        "created": True,
        "rejected_fields": ["email", "address"],
    }
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


NO_OPT_OUTS = (
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
    """It is told what is missing, and so is the log."""
    before = await read_everything(pool)
    for body, says in NO_OPT_OUTS:
        with capture_logs() as logs:
            answer = await http.post(hook.form_path, content=body, headers=FORM)
        assert says in problem_detail(answer, 422, "invalid"), body
        assert await read_everything(pool) == before
        assert refusals(logs) == [(hook.id, "malformed")]


MANY = b"&".join(b"field%d=value" % n for n in range(5_000))

ODD_FORMS = (
    (b"email=ann%40x.example&event_id=%00", "manual"),
    (b"email=ann%40x.example&event_id=%ff", "manual"),
    (b"email=ann%40x.example&event_id=" + b"x" * 300, "manual"),
    (b"email=ann%40x.example&contactId=%00%ff", "manual"),
    (b"email=ann%40x.example&kind=admin", "manual"),
    (b"email=ann%40x.example&kind=" + b"x" * 300, "manual"),
    (b"email=ann%40x.example&kind=Spam+", "spam"),
    (b"email=ann%40x.example&Kind=List-Unsubscribe", "list_unsubscribe"),
    (b"email=ann%40x.example&kind=x&kind=manual&kind=FEEDBACK", "feedback"),
    (MANY + b"&email=ann@x.example", "manual"),
    (b"email=ann@x.example&" + MANY, "manual"),
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

SENT_AS = ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "x", "")


async def test_what_does_not_matter_loses_no_opt_out(http, pool, hook, accounts):
    """Of whatever type the body is said to be, and whatever else stands in it."""
    numbers = itertools.count()
    for (body, kind), sent_as in itertools.product(ODD_FORMS, SENT_AS):
        number = next(numbers)
        event_id = f"event{number}x".encode()
        # Each has a recipient of its own.
        mine = body.replace(b"x.example", f"x{number}.example".encode())
        mine = mine.replace(
            "x.example".encode("utf-16-le"), f"x{number}.example".encode("utf-16-le")
        )
        mine = mine.replace(b"event_id=", b"event_id=" + event_id)
        headers = {"Content-Type": sent_as} if sent_as else {}
        answers = [await http.post(hook.form_path, content=mine, headers=headers) for _ in "12"]
        told = [(answer.status_code, answer.json().get("created")) for answer in answers]
        assert told == [(200, True), (200, False)], (body, sent_as, answers[0].text)
        now = await statuses_of(pool, accounts["default"])
        assert now[f"ann@x{number}.example"] == (kind, False), (body, sent_as)
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


async def test_multipart_is_read_as_far_as_it_came(http, pool, hook, accounts):
    """With files, with a boundary that is not named or not its own, and cut off."""
    types = ("multipart/form-data; boundary={}", 'multipart/form-data; boundary="{}"', "x", "")
    for number, ((body, boundary), says) in enumerate(itertools.product(PARTS, types)):
        mine = body.replace("x.example", f"x{number}.example").encode()
        headers = {"Content-Type": says.format(boundary)} if says else {}
        answer = await http.post(hook.form_path, content=mine, headers=headers)
        assert answer.status_code == 200, (body, says, answer.text)
        now = await statuses_of(pool, accounts["default"])
        assert now[f"ann@x{number}.example"] == ("manual", False)


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


async def test_a_plus_sign_that_came_as_a_blank(http, pool, hook):
    """Of a sender that does not encode it: there can be no blank in a local part."""
    account_id = await pool.fetchval("select id from accounts where name = 'default'")
    for number, (body, address, is_told) in enumerate(PLUS_SIGNS):
        mine = body.replace(b"example.com", f"example{number}.com".encode())
        answer = await http.post(hook.form_path, content=mine, headers=FORM)
        assert answer.status_code == 200, (body, answer.text)
        told = answer.json().get("adjusted", [])
        assert [text.partition(":")[0] for text in told] == ["address"] * is_told, body
        now = await statuses_of(pool, account_id)
        assert now[address.replace("example.com", f"example{number}.com")] == ("manual", False)
        assert len(now) == len({ANN, BOB, FAMILY}) + number + 1


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


async def test_the_account_tells_which_address_is_meant(http, pool, hook, others, accounts):
    """Its own addresses do, and no other account's; the answer tells nothing of it, and the same
    message is read in the same way when it comes again.
    """
    ambiguous = enumerate(itertools.product(AMBIGUOUS, ("", "&event_id=e{}")))
    for number, ((form, known, meant), event_id) in ambiguous:
        domain = f"m{number}.example"
        body = (form.format(domain) + event_id.format(number)).encode()
        mine, theirs = accounts["default"], accounts["other"]
        await fill(pool, mine, {}, {f"{local}@{domain}": OPEN for local in known})
        await fill(pool, theirs, {}, {f"news@{domain}": OPEN})
        before = set(await statuses_of(pool, theirs))
        answers = [await http.post(hook.form_path, content=body, headers=FORM) for _ in "12"]
        told = [(answer.status_code, answer.json()["created"]) for answer in answers]
        assert told == [(200, True), (200, False)], (body, answers[0].text)
        now = await statuses_of(pool, mine)
        manual = {each for each, (status, _) in now.items() if status == "manual"}
        assert {each for each in manual if each.endswith(domain)} == {f"{meant}@{domain}"}, body
        assert set(await statuses_of(pool, theirs)) == before
        there = await http.post(others.form_path, content=body, headers=FORM)
        assert there.json() == answers[0].json()


async def test_a_guess_gives_way_to_a_contact_that_comes_later(http, pool, hook, accounts):
    """What a message was read as while nothing was known is no contact's address; once one of the
    other readings is, the same message means that one.
    """
    mine, body = accounts["default"], b"email=Eva+maria@later.example"
    await http.post(hook.form_path, content=body, headers=FORM)
    assert (await statuses_of(pool, mine))["eva+maria@later.example"] == ("manual", False)
    await fill(pool, mine, {77: {1: "maria@later.example"}}, {"maria@later.example": OPEN})
    answer = await http.post(hook.form_path, content=body, headers=FORM)
    assert answer.json()["created"]
    assert (await statuses_of(pool, mine))["maria@later.example"] == ("manual", False)


EVENTS_IN_FORMS = (
    [{"email": "a@{}", "kind": "spam"}, {"email": "b@{}"}, {"type": "ping"}],
    [{"msg": {"email": "a@{}"}, "kind": "spam"}, {"email": ["b@{}"], "owner": {"email": ANN}}],
)


async def test_each_event_in_a_form_is_applied_by_itself(http, pool, hook, accounts):
    """As JSON in a field, as Mandrill has it, or as the whole body; and once if it comes again."""
    for number, (given, is_body) in enumerate(itertools.product(EVENTS_IN_FORMS, (True, False))):
        text = json.dumps(given).replace("@{}", f"@v{number}.example")
        how = {"content": text} if is_body else {"data": {"mandrill_events": text}}
        answers = [await http.post(hook.form_path, **how) for _ in "12"]
        assert [answer.json() for answer in answers] == [
            {"applied": True, "created": created, "rejected_fields": []}
            for created in (True, False)
        ]
        now = await statuses_of(pool, accounts["default"])
        assert now[f"a@v{number}.example"] == ("spam", False)
        assert now[f"b@v{number}.example"] == ("manual", False)
        assert now[ANN] == OPEN
    assert await pool.fetchval("select count(*) from jobs") == 2 * (number + 1)


async def test_an_id_of_an_event_in_a_form_stands_for_one_event(http, pool, hook, accounts):
    """What is new beside it is applied; it is not."""
    await http.post(hook.form_path, data={"email": BOB, "event_id": "17"})
    given = [{"email": ANN, "event_id": "17"}, {"email": "new@x.example"}, {"email": "n/a"}]
    answer = await http.post(hook.form_path, data={"data": json.dumps(given)})
    problem_detail(answer, 409, "idempotency-key-reused")
    assert answer.json()["event_ids"] == ["17"]
    now = await statuses_of(pool, accounts["default"])
    assert (now[ANN], now["new@x.example"]) == (OPEN, ("manual", False))


async def test_an_unknown_kind_is_told_in_answer_and_log(http, pool, hook, accounts):
    """It counts as manual; a sender that means a complaint can be set right."""
    with capture_logs() as logs:
        answer = await http.post(hook.form_path, data={"email": ANN, "kind": "complained"})
    assert answer.json()["adjusted"] == ["kind: it is not known, and counts as manual"]
    (line,) = [line for line in logs if line["event"] == "hook.adjusted"]
    assert (line["hook"], line["parts"]) == (hook.id, ["kind"])


async def test_the_line_of_a_request_tells_its_hook(http, settings, hook, others, accounts):
    """And its account, whatever was answered; without a token or a signature that holds there is
    neither, as there is no hook to speak of.
    """
    with capture_logs() as logs:
        await http.post(hook.form_path, data={"email": ANN})
        await http.post(hook.form_path, data={"email": "nobody"})
        await post_events(http, others, event(address=BOB))
        await http.post(hook.form_path + "A", data={"email": ANN})
        await http.post(hook.events_path, json=event())
    told = [line for line in logs if line["event"] == "request.answered"]
    ours, theirs = (hook.id, accounts["default"]), (others.id, accounts["other"])
    assert [(line["http_status"], line.get("hook"), line["account"]) for line in told] == [
        (200, *ours),
        (422, *ours),
        (200, *theirs),
        (404, None, None),
        (401, None, None),
    ]
    assert [line["key"] for line in told] == [None] * 5


async def test_long_ids_are_one_event_each(http, pool, hook, accounts):
    """Though they differ only behind what fits into a key, or look like another's digest."""
    long = "x" * 300
    digest = "sha256:" + hashlib.sha256(f"{long}1".encode()).hexdigest()
    for event_id in (f"{long}1", f"{long}2", digest, "\x00", "\x01"):
        form = {"email": f"a{len(event_id)}{event_id[-1:].encode().hex()}@x.example"}
        form["event_id"] = event_id
        for created in (True, False):
            answer = await http.post(hook.form_path, data=form)
            assert (answer.status_code, answer.json()["created"]) == (200, created)


async def test_all_addresses_of_a_form_are_one_person_s(http, pool, hook, accounts):
    """Also several in one field, or by one name. What is not an address is told of."""
    body = b"email=ann@x.example%2Cb%40x.example%3B+c@x.example&email=d@x.example, nobody@"
    answer = await http.post(hook.form_path, content=body, headers=FORM)
    assert answer.json() == {"applied": True, "created": True, "rejected_fields": ["email"]}
    now = await statuses_of(pool, accounts["default"])
    assert {now[f"{name}@x.example"] for name in "bcd"} | {now[ANN]} == {("manual", False)}


async def test_junk_around_an_address_does_not_matter(http, pool, hook, accounts):
    """Any other fields, of any names and bytes, leave the recipient opted out, and nobody else."""
    numbers = itertools.count()

    async def opted_out(before, after, name, encode):
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
    encoded = st.sampled_from(["not at all", "the @", "wholly"])
    await check_property(opted_out, junk, junk, names, encoded, max_examples=60)
    addresses = await pool.fetch("select match_key from email_addresses")
    assert {row[0] for row in addresses} - {ANN, BOB, FAMILY} == {
        f"junk+{n}@y.example" for n in range(next(numbers))
    }


OTHER_PEOPLES = st.sampled_from(
    [b"owner_email", b"from", b"sender", b"reply_to", b"account_manager[email]", b"user.email"]
).map(lambda name: name + b"=someone.else@y.example")

JUNK_FIELDS = OTHER_PEOPLES | st.binary(max_size=30).filter(
    # Not one that happens to be a field of its own, or to open JSON or multipart.
    lambda junk: (
        not re.search(rb"(?i)[&\r\n]|mail|address|recipient|kind|event|rcpt|^\s*[\[{-]", junk)
        and not junk.startswith((b"\xff\xfe", b"\xfe\xff"))
    )
)
