"""Hooks: senders without a key opt out addresses of one account, if token or signature hold."""

import asyncio
import hashlib
import itertools
import json
import re
import time
from urllib.parse import urlencode

import pytest
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from producers import hook_opt_outs
from producers.hook_events import MAX_EVENTS
from producers.hook_opt_outs import HookOptOutApplier
from producers.hooks import create_hook, revoke_hook, rotate_hook_secret
from runtime.signing import signature
from schemas.errors import InvalidRequest, NotFound
from tests.kit.factories import fill, statuses_of
from tests.kit.property_examples import check_property
from tests.kit.recipients import (
    ANN,
    BOB,
    FAMILY,
    OPEN,
    TAILS,
    make_couples,
    problem_detail,
    read_everything,
)
from tests.unit.test_rate_limit import Clock
from web import cached_list, form_parser
from web.peers import FailedAuthLimiter

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def accounts(pool):
    """Create two accounts with the same couple."""
    return await make_couples(pool)


@pytest.fixture
async def hook(pool, settings, accounts):
    """Create a hook of the default account."""
    return await create_hook(pool, settings, account="default", source="keap")


@pytest.fixture
async def others(pool, settings, accounts):
    """Create a hook of the other account."""
    return await create_hook(pool, settings, account="other", source="keap")


def event(**changes):
    """Return an opt-out event with changes; a field that is None is left out."""
    body = {"event_id": "e1", "address": ANN, "kind": "feedback"} | changes
    return {name: value for name, value in body.items() if value is not None}


def signed(secret, body, *, at=None):
    """Return the headers of a message signed now, or at the given time."""
    timestamp = str(int(time.time() if at is None else at))
    return {"Sluice-Timestamp": timestamp, "Sluice-Signature": signature(secret, timestamp, body)}


async def post_events(http, hook, events, **how):
    """Post the events with the hook's signature."""
    body = json.dumps(events).encode()
    return await http.post(hook.events_path, content=body, headers=signed(hook.secret, body, **how))


async def test_a_message_told_again_keeps_nobody_waiting(http, hook, monkeypatch):
    """What is asked meanwhile is answered between two of its events, though they ask nothing of
    Postgres any more.
    """
    events = [event(event_id=str(n), address=f"p{n}@x.example") for n in range(40)]
    assert (await post_events(http, hook, events)).status_code == 200
    apply = HookOptOutApplier._apply

    async def noted(*arguments):
        at_events.append(turns)
        return await apply(*arguments)

    monkeypatch.setattr(HookOptOutApplier, "_apply", noted)
    again = asyncio.create_task(post_events(http, hook, events))
    turns, at_events = 0, []
    while not again.done():
        await asyncio.sleep(0)
        turns += 1
    assert not any(each["created"] for each in (await again).json()["events"])
    assert len(at_events) == len(set(at_events)) == len(events)


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


async def test_a_token_that_does_not_hold_is_not_there(http, pool, settings, hook, others):
    """Guessed at, changed, of no hook there is, or one hook's digest under another's number."""
    before = await read_everything(pool)
    head, _, mac = hook.form_path.rpartition(".")
    other_head = others.form_path.rpartition(".")[0]
    with capture_logs() as logs:
        for path in (
            f"{head}.{mac[::-1]}",
            f"{other_head}.{mac}",
            f"/v1/hooks/form/99.{mac}",
            f"/v1/hooks/form/{'9' * 19}.{mac}",
            f"/v1/hooks/form/{hook.id}",
            hook.form_path[:-1],
            hook.form_path + "A",
            hook.form_path[:-1] + "/",
        ):
            problem_detail(await http.post(path, data={"email": ANN}), 404, "not-found")
    assert refusals(logs) == [(hook.id, "invalid_token"), (others.id, "invalid_token")]
    assert await read_everything(pool) == before


async def test_what_stands_behind_the_token_does_not_matter(http, pool, hook, accounts):
    """A slash or a full stop that came along when the URL was copied."""
    for number, tail in enumerate(TAILS):
        data = {"email": f"{number}@x.example"}
        answer = await http.post(f"{hook.form_path}{tail}?x=%00", data=data)
        assert (answer.status_code, answer.json()["applied"]) == (200, True), tail


# Signed events


async def test_a_signed_event_is_applied(http, pool, hook, accounts):
    """With its spread, in the hook's own account."""
    answer = await post_events(
        http, hook, event(occurred_at="2024-05-06T07:00:00Z", note="a complaint")
    )
    assert (answer.status_code, answer.json()) == (
        200,
        {"events": [{"event_id": "e1", "applied": True, "created": True, "conflict": False}]},
    )
    assert await statuses_of(pool, accounts["default"]) == {
        ANN: ("feedback", False),
        FAMILY: ("manual", True),
        BOB: OPEN,
    }
    assert set((await statuses_of(pool, accounts["other"])).values()) == {OPEN}


async def test_a_list_of_events_is_applied_in_order(http, pool, hook, accounts):
    """Each is a job of its own, however many there are."""
    many = [event(event_id=str(n), address=f"{n}@x.example") for n in range(150)]
    answer = await post_events(http, hook, many)
    assert [told["event_id"] for told in answer.json()["events"]] == [str(n) for n in range(150)]
    assert await pool.fetchval("select count(*) from jobs where state = 'completed'") == 150
    problem_detail(await post_events(http, hook, []), 422, "invalid")
    problem_detail(await post_events(http, hook, [1] * (MAX_EVENTS + 1)), 422, "invalid")


async def test_a_message_that_comes_again_changes_nothing(http, pool, hook, accounts):
    """It is answered as the first time, but for `created`: byte by byte, or signed anew."""
    body = json.dumps(event()).encode()
    headers = signed(hook.secret, body)
    first = await http.post(hook.events_path, content=body, headers=headers)
    before = await read_everything(pool)
    for again in (headers, signed(hook.secret, body, at=time.time() - 60)):
        answer = await http.post(hook.events_path, content=body, headers=again)
        (told,) = answer.json()["events"]
        assert told == first.json()["events"][0] | {"created": False}
    assert await read_everything(pool) == before


async def test_an_id_that_stood_for_something_else_is_a_conflict(http, pool, hook, accounts):
    """It alone is refused: the other events of the list are applied."""
    await post_events(http, hook, event())
    answer = await post_events(
        http, hook, [event(address=BOB), event(event_id="e2", address="new@x.example"), event()]
    )
    problem_detail(answer, 409, "idempotency-key-reused")
    told = [(e["applied"], e["created"], e["conflict"]) for e in answer.json()["events"]]
    assert told == [(False, False, True), (True, True, False), (True, False, False)]
    now = await statuses_of(pool, accounts["default"])
    assert (now[BOB], now["new@x.example"]) == (OPEN, ("feedback", False))


BAD_EVENTS = (
    event(event_id="bad", address="nobody"),
    event(event_id="bad", address=None, adress=BOB),
    event(event_id="bad", address=None, owner={"email": BOB}),
    event(event_id="bad", address=5),
    event(event_id="\ud800", address="\ud800@x.example"),
    {},
    "event",
    ["event"],
    None,
)


async def test_a_bad_event_keeps_no_other_from_being_applied(http, pool, hook, accounts):
    """Each is told of in its place in the answer. Alone it is refused, and so are bad ones only."""
    for bad in BAD_EVENTS:
        problem_detail(await post_events(http, hook, bad), 422, "invalid")
    answer = await post_events(http, hook, list(BAD_EVENTS))
    problem_detail(answer, 422, "invalid")
    assert len(answer.json()["events"]) == len(BAD_EVENTS)
    assert set((await statuses_of(pool, accounts["default"])).values()) == {OPEN}
    with capture_logs() as logs:
        answer = await post_events(http, hook, [*BAD_EVENTS, event(), event(event_id="e2")])
    assert answer.status_code == 200
    *bad, first, second = answer.json()["events"]
    assert [told["applied"] for told in bad] == [False] * len(BAD_EVENTS)
    assert all("Nothing was stored" in told["error"] for told in bad)
    assert [told.get("event_id") for told in bad[:2]] == ["bad", "bad"]
    assert (first["applied"], second["applied"], "error" in first) == (True, True, False)
    assert refusals(logs) == [(hook.id, "malformed")]
    now = await statuses_of(pool, accounts["default"])
    assert (now[ANN], now[BOB]) == (("feedback", False), OPEN)


ODD_EVENTS = (
    ({"event_id": None}, "feedback", []),
    ({"event_id": "\x00"}, "feedback", []),
    ({"event_id": "\ud800"}, "feedback", []),
    ({"event_id": "x" * 3_000}, "feedback", []),
    ({"event_id": 4711}, "feedback", []),
    ({"event_id": {"of": "what"}}, "feedback", []),
    ({"kind": None}, "manual", []),
    ({"kind": "admin"}, "manual", ["kind"]),
    ({"kind": 7}, "manual", ["kind"]),
    ({"kind": " Spam"}, "spam", []),
    ({"occurred_at": "2999-01-01T00:00:00Z"}, "feedback", ["occurred_at"]),
    ({"occurred_at": "yesterday"}, "feedback", ["occurred_at"]),
    ({"occurred_at": "2024-05-06T07:00:00"}, "feedback", ["occurred_at"]),
    ({"occurred_at": "0001-01-01T00:00:00+05:00"}, "feedback", ["occurred_at"]),
    ({"note": "x" * 5_000}, "feedback", ["note"]),
    ({"note": "a\x00b\ud800c"}, "feedback", []),
    ({"note": ["a", {"b": 1}]}, "feedback", []),
    ({"list": {"owner": {"email": BOB}}, "adress": BOB, "\x00": "\ud800"}, "feedback", []),
    ({"address": f"Ann <{ANN}>"}, "feedback", []),
    ({"address": None, "data": {"email": ANN}}, "feedback", []),
    ({"address": "n/a", "recipient": ANN}, "feedback", ["address"]),
)


async def test_what_does_not_matter_loses_no_event(http, pool, hook, accounts):
    """It is applied, once, and told of where something of it is not kept."""
    for number, (changes, kind, adjusted) in enumerate(ODD_EVENTS):
        given = json.dumps(event(**({"event_id": f"e{number}"} | changes)))
        given = given.replace(ANN, f"ann@x{number}.example").encode()
        answers = [
            await http.post(hook.events_path, content=given, headers=signed(hook.secret, given))
            for _ in "12"
        ]
        (first,), (second,) = (answer.json()["events"] for answer in answers)
        told = (first["applied"], first["created"], second["created"])
        assert told == (True, True, False), changes
        assert [text.partition(":")[0] for text in first.get("adjusted", [])] == adjusted
        now = await statuses_of(pool, accounts["default"])
        assert now[f"ann@x{number}.example"] == (kind, False)
        assert now[BOB] == OPEN


async def test_bytes_that_are_not_text_lose_no_event(http, pool, hook, accounts):
    """Of a sender that writes cp1252: the one whose address has them is refused by itself."""
    given = [
        event(address="a@z.example", name="Jos\xe9"),
        event(event_id="2", address="\xe9@z.example"),
    ]
    body = json.dumps(given, ensure_ascii=False).encode("cp1252")
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    good, bad = answer.json()["events"]
    assert (answer.status_code, good["applied"], "Nothing was" in bad["error"]) == (200, True, True)
    says = {"Content-Type": "application/json; charset=cp1252"}
    answer = await http.post(
        hook.events_path, content=body, headers=signed(hook.secret, body) | says
    )
    assert [told["created"] for told in answer.json()["events"]] == [False, True]
    now = await statuses_of(pool, accounts["default"])
    assert (now["a@z.example"], now["\xe9@z.example"]) == (("feedback", False),) * 2


async def test_the_account_tells_which_address_of_an_event_is_meant(http, pool, hook, accounts):
    """One that is odd but known counts as it is written."""
    await fill(pool, accounts["default"], {}, {"=o@x.example": OPEN, "p@x.example": OPEN})
    for number, address in enumerate(["=o@x.example", "x=p@x.example", "=q@x.example"] * 2):
        given = event(event_id=f"e{number % 3}", address=address)
        (told,) = (await post_events(http, hook, given)).json()["events"]
        assert (told["applied"], told["created"]) == (True, number < 3)
    now = await statuses_of(pool, accounts["default"])
    assert {each for each, (status, _) in now.items() if status == "feedback"} == {
        *("=o@x.example", "p@x.example", "q@x.example")
    }


LOST_AND_KEPT = (
    b'{"event_id":"dn2","address":"lost1@x.example","address":"kept1@x.example","kind":"manual"}'
)


async def test_an_event_with_a_name_twice_is_refused(http, pool, hook, accounts):
    """One of two values would be lost. In a list it keeps no other event from being applied."""
    before = await read_everything(pool)
    nested = b'{"event_id": "n", "address": "a@x.example", "data": {"email": "b@x.example", "x": 1,'
    for body in (LOST_AND_KEPT, b"[%b]" % LOST_AND_KEPT, nested + b'"email": "c@x.example"}}'):
        answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
        assert "twice" in problem_detail(answer, 400, "malformed")
        assert await read_everything(pool) == before
    body = b"[%b, %b]" % (LOST_AND_KEPT, json.dumps(event()).encode())
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    bad, good = answer.json()["events"]
    assert (bad["event_id"], "twice" in bad["error"], good["applied"]) == ("dn2", True, True)
    assert await pool.fetchval("select count(*) from jobs") == 1


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b"1" * 10_000, 422, "invalid"),
        (b"null", 422, "invalid"),
        (b"NaN", 422, "invalid"),
        (b'"event"', 422, "invalid"),
    ],
)
async def test_a_body_that_is_no_event_changes_nothing(
    http, pool, hook, accounts, body, status, slug
):
    """Even if it is signed."""
    before = await read_everything(pool)
    answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
    problem_detail(answer, status, slug)
    assert await read_everything(pool) == before


async def test_a_signature_that_does_not_hold_is_refused(http, pool, settings, hook, others):
    """Of another body, time, hook or account; malformed, or not there; whatever the body is."""
    body = json.dumps(event()).encode()
    good = signed(hook.secret, body)
    stamp, mark = good["Sluice-Timestamp"], good["Sluice-Signature"]
    before = await read_everything(pool)
    with capture_logs() as logs:
        for headers in (
            {},
            {"Sluice-Timestamp": stamp},
            {"Sluice-Signature": mark},
            good | {"Sluice-Signature": mark.removeprefix("v1=")},
            good | {"Sluice-Signature": mark.replace("v1=", "v2=")},
            good | {"Sluice-Signature": "v1="},
            good | {"Sluice-Signature": mark[:-1]},
            good | {"Sluice-Signature": b"v1=\xff"},
            good | {"Sluice-Timestamp": str(int(stamp) + 1)},
            good | {"Sluice-Timestamp": "now"},
            good | {"Sluice-Timestamp": ""},
            {"Sluice-Timestamp": "now", "Sluice-Signature": signature(hook.secret, "now", body)},
            signed(others.secret, body),
            signed(hook.secret, body + b" "),
        ):
            answer = await http.post(hook.events_path, content=body, headers=headers)
            problem_detail(answer, 401, "invalid-signature")
        answer = await http.post(hook.events_path, content=b"{", headers=good)
        problem_detail(answer, 401, "invalid-signature")
    assert set(refusals(logs)) == {(hook.id, "invalid_signature")}
    assert len(refusals(logs)) == 15
    assert await read_everything(pool) == before


@pytest.mark.parametrize("seconds", [-310, 310, -(10**9)])
async def test_a_message_counts_for_five_minutes(http, pool, hook, accounts, seconds):
    """Signed earlier, or by a clock far ahead, it is refused, however well it is signed."""
    before = await read_everything(pool)
    answer = await post_events(http, hook, event(), at=time.time() + seconds)
    problem_detail(answer, 401, "stale-timestamp")
    assert await read_everything(pool) == before
    assert (await post_events(http, hook, event(), at=time.time() - 290)).status_code == 200


async def test_signatures_hold_over_the_very_bytes(http, pool, hook, accounts):
    """For any body that differs in one byte from the one that was signed, none does."""
    body = json.dumps(event()).encode()
    headers = signed(hook.secret, body)

    async def refused(at, byte):
        changed = body[:at] + bytes([byte]) + body[at + 1 :]
        if changed != body:
            answer = await http.post(hook.events_path, content=changed, headers=headers)
            problem_detail(answer, 401, "invalid-signature")

    await check_property(
        refused, st.integers(0, len(body) - 1), st.integers(0, 255), max_examples=30
    )
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_each_hook_numbers_its_own_events(http, pool, settings, hook, accounts):
    """Two senders of one account do not know of each other's ids, though they bear one name."""
    second = await create_hook(pool, settings, account="default", source="keap")
    for mine, address in ((hook, ANN), (second, BOB)):
        (told,) = (await post_events(http, mine, event(address=address))).json()["events"]
        assert (told["created"], told["conflict"]) == (True, False)


async def test_one_accounts_hook_cannot_touch_another(http, pool, hook, others, accounts):
    """The same address, event and source: each hook opts out in its own account."""
    for mine in (hook, others):
        (told,) = (await post_events(http, mine, event())).json()["events"]
        assert told["created"]
    assert {row["account_id"] for row in await pool.fetch("select account_id from jobs")} == set(
        accounts.values()
    )


@pytest.mark.parametrize("number", ["0", "-1", "99", str(2**63)])
async def test_a_hook_that_is_none_is_not_there(http, accounts, number):
    """Whatever number somebody tries: without its secret nobody learns whether there is a hook."""
    for headers in ({}, signed("x" * 64, b"{}")):
        answer = await http.post(f"/v1/hooks/{number}/events", content=b"{}", headers=headers)
        problem_detail(answer, 401, "invalid-signature")


def whole(answer):
    """All of an answer but its correlation id, which is drawn for each."""
    headers = [(n, v) for n, v in answer.headers.multi_items() if n != "x-correlation-id"]
    return answer.status_code, headers, answer.content


UNSIGNED = (
    {},
    {"Sluice-Signature": "v1="},
    signed("0" * 64, b"{}"),
    signed("0" * 64, b"{}", at=0),
)


async def test_nobody_learns_which_hooks_there_are(http, pool, settings, hook, others):
    """Without its secret, one that is there, that was revoked, that was renewed and that never was
    are answered alike, to the last byte of whole answers; so are form tokens.
    """
    revoked = await create_hook(pool, settings, account="default", source="old")
    await revoke_hook(pool, revoked.id)
    await rotate_hook_secret(pool, settings, others.id)
    numbers = (hook.id, others.id, revoked.id, 99, 0, -1, 2**62, 2**63)
    for headers in UNSIGNED:
        paths = [f"/v1/hooks/{number}/events" for number in numbers]
        answers = [await http.post(path, content=b"{}", headers=headers) for path in paths]
        assert {whole(answer)[0] for answer in answers} == {401}
        assert all(whole(answer) == whole(answers[0]) for answer in answers)
    key_id, _, mac = hook.form_path.rpartition("/")[2].split(".")
    wrong = "".join(reversed(mac))
    tokens = [f"{key_id}.{number}.{wrong}" for number in numbers]
    tokens += ["x", f"00000000.{hook.id}.{mac}", f"{hook.id}.{mac}", revoked.form_path[15:]]
    answers = [await http.post(f"/v1/hooks/form/{each}", data={"email": ANN}) for each in tokens]
    assert {whole(answer)[0] for answer in answers} == {404}
    assert all(whole(answer) == whole(answers[0]) for answer in answers)


async def test_a_hook_takes_what_is_right_beside_too_much_that_is_wrong(
    app, http, hook, pool, settings, monkeypatch
):
    """An opt-out is not refused for what others at the same address guess, be its hook one that was
    made, or renewed, after the last guess.
    """
    monkeypatch.setattr(cached_list, "MIN_REFRESH_SECONDS", 0.01)
    app.state.sluice.failed_auth_limiter = FailedAuthLimiter(5, Clock())
    with capture_logs() as logs:
        answers = [await http.post(f"/v1/hooks/{n}/events", content=b"{}") for n in range(20)]
        answers += [await http.post(f"/v1/hooks/form/x{n}", data={"email": ANN}) for n in range(9)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 24
    problem_detail(answers[-1], 429, "too-many-requests")
    assert answers[-1].headers["retry-after"] == "12"
    (told,) = [line for line in logs if line["event"] == "peer.limited"]
    assert "127.0.0.1" not in str(told)
    assert (await post_events(http, hook, event())).status_code == 200
    assert (await http.post(hook.form_path, data={"email": BOB})).status_code == 200
    assert (await http.post(hook.form_path, data={"email": "no"})).status_code == 422
    for _ in range(2):
        made = await create_hook(pool, settings, account="default", source="new")
        assert (await http.post(made.form_path, data={"email": BOB})).status_code == 200
        renewed = await rotate_hook_secret(pool, settings, made.id, former_days=0)
        assert (await post_events(http, renewed, event())).status_code == 200
        assert (await http.post(made.form_path, data={"email": BOB})).status_code == 429


async def test_a_renewed_hook_takes_both_secrets_for_a_while(http, pool, settings, hook):
    """The former secret and form path as long as is said, and then the new ones alone."""
    new = await rotate_hook_secret(pool, settings, hook.id)
    assert (new.id, new.secret != hook.secret, new.form_path != hook.form_path) == (1, True, True)
    for number, each in enumerate((hook, new)):
        answer = await post_events(http, each, event(event_id=f"e{number}"))
        assert answer.status_code == 200
        assert (await http.post(each.form_path, data={"email": ANN})).status_code == 200
    await pool.execute("update hooks set former_until = clock_timestamp()")
    problem_detail(await post_events(http, hook, event()), 401, "invalid-signature")
    problem_detail(await http.post(hook.form_path, data={"email": ANN}), 404, "not-found")
    assert (await post_events(http, new, event())).status_code == 200
    newest = await rotate_hook_secret(pool, settings, hook.id, former_days=0)
    problem_detail(await post_events(http, new, event()), 401, "invalid-signature")
    assert (await post_events(http, newest, event())).status_code == 200
    for wrong in (-1, 367):
        with pytest.raises(InvalidRequest):
            await rotate_hook_secret(pool, settings, hook.id, former_days=wrong)
    await revoke_hook(pool, hook.id)
    for unknown in (hook.id, 99, 0, 2**63):
        with pytest.raises(NotFound):
            await rotate_hook_secret(pool, settings, unknown)


async def test_a_hook_outlives_the_key_that_made_it(app, http, pool, settings, hook):
    """Its secret and path count while their key is listed, whichever is the first; of a key that
    was dropped they do not, and nothing raises.
    """
    old, new = settings.signing_keys.get_secret_value(), "the-next-key-of-this-test-and-no-other"
    for keys, listed in ((f"{new},{old}", True), (new, False), (f"{old},{new}", True)):
        app.state.sluice.settings = settings.model_copy(update={"signing_keys": SecretStr(keys)})
        answers = (
            await post_events(http, hook, event()),
            await http.post(hook.form_path, data={"email": ANN}),
        )
        assert [answer.status_code for answer in answers] == ([200, 200] if listed else [401, 404])


# Both


async def test_a_hook_that_was_revoked_is_not_there(http, pool, hook, others):
    """From the next request on, by either way; the other hooks go on."""
    before = await read_everything(pool)
    await revoke_hook(pool, hook.id)
    with capture_logs() as logs:
        problem_detail(await post_events(http, hook, event()), 404, "not-found")
        problem_detail(await http.post(hook.form_path, data={"email": ANN}), 404, "not-found")
    assert refusals(logs) == [(hook.id, "revoked")] * 2
    assert await read_everything(pool) == before
    assert (await post_events(http, others, event())).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_other_methods_change_nothing(http, pool, hook, accounts, method):
    """A hook is posted to."""
    before = await read_everything(pool)
    query = urlencode({"email": ANN})
    for path in (hook.form_path, hook.events_path):
        assert (await http.request(method, f"{path}?{query}")).status_code == 405
    assert await read_everything(pool) == before


async def test_addresses_in_the_query_are_not_read(http, pool, hook, accounts):
    """They would be in the logs of every router on the way."""
    answer = await http.post(f"{hook.form_path}?email={ANN}", data={"name": "Ann"})
    problem_detail(answer, 422, "invalid")
    assert (await statuses_of(pool, accounts["default"]))[ANN] == OPEN


async def test_bodies_are_bounded(http, hook, accounts):
    """Nobody without a key may fill the memory; a signature is looked at after the size."""
    body = b"email=" + b"x" * 5_000_000
    problem_detail(
        await http.post(hook.form_path, content=body, headers=FORM), 413, "body-too-large"
    )
    problem_detail(await http.post(hook.events_path, content=body), 413, "body-too-large")


async def test_no_line_and_no_answer_tells_what_it_should_not(http, hook, others, accounts):
    """Neither an address, a token or a secret in a line, nor the account's name in an answer."""
    token = hook.form_path.rpartition("/")[2]
    with capture_logs() as logs:
        answers = [
            await http.post(hook.form_path, data={"email": ANN, "kind": "x"}),
            await http.post(hook.form_path, data={"email": ANN}),
            await http.post(hook.form_path, data={"email": "nobody"}),
            await post_events(http, hook, event()),
            await post_events(http, hook, event(address=BOB)),
            await http.post(hook.events_path, json=event()),
            await http.post(hook.form_path + "A", data={"email": ANN}),
        ]
    told = json.dumps(logs, default=str)
    for secret in (token, token.partition(".")[2], hook.secret, "x.example"):
        assert secret not in told
    assert "default" not in " ".join(answer.text for answer in answers)


def refusals(logs):
    """Return (hook, reason) of each refusal in the log."""
    return [(line["hook"], line["reason"]) for line in logs if line["event"] == "hook.refused"]


@pytest.mark.parametrize("source", ["", "two words", "-x", "ä", "x\n", "x" * 101, "\x00"])
async def test_a_source_is_one_word(pool, settings, source):
    """So that it and an event's id, side by side, are one text in one way only."""
    with pytest.raises(InvalidRequest, match="cannot be the source"):
        await create_hook(pool, settings, account="default", source=source)
    with pytest.raises(NotFound, match="no account"):
        await create_hook(pool, settings, account="nobody", source="keap")
    assert await pool.fetchval("select count(*) from hooks") == 0


async def test_nothing_to_sign_with_is_stored(pool, hook):
    """The table has a random salt, which is of no use without SIGNING_KEYS; nor has the repr."""
    row = str(dict(await pool.fetchrow("select * from hooks where id = $1", hook.id)))
    token = hook.form_path.rpartition(".")[2]
    for secret in (hook.secret, token):
        assert secret not in row
        assert secret not in repr(hook)


# More than can be applied in time


class EventClock:
    """The time of `HookOptOutApplier`, which is up once some events were applied."""

    def __init__(self, monkeypatch):
        self.left = None
        monkeypatch.setattr(hook_opt_outs, "monotonic", self)

    def stop_after(self, events):
        """Let the time for applying events be up after this many."""
        self.left = events

    def __call__(self):
        """Return the seconds that have passed since the message came."""
        if self.left is None:
            return 0.0
        self.left -= 1
        return 0.0 if self.left >= -1 else hook_opt_outs.APPLY_SECONDS + 1


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by which events are applied."""
    return EventClock(monkeypatch)


def events_in_conflict(answer):
    """Return which events of a 409 response were in conflict."""
    problem_detail(answer, 409, "idempotency-key-reused")
    return [each.get("conflict", False) for each in answer.json()["events"]]


@pytest.mark.parametrize("applied", [0, 1])
async def test_what_is_not_applied_in_time_is_stored(http, pool, hook, accounts, clock, applied):
    """One job for each kind lists what is left, also when that comes again, or a part of it."""
    told = [
        event(event_id="1", address=ANN),
        event(event_id="2", address=BOB, kind="manual", note="a note"),
        event(event_id="3", address="new@x.example", kind="manual"),
        event(address="fourth@x.example", kind="manual"),
    ]
    clock.stop_after(applied)
    answer = await post_events(http, hook, told)
    assert answer.status_code == 202
    assert [each["applied"] for each in answer.json()["events"]] == [n < applied for n in range(4)]
    rows = await pool.fetch("select params ->> 'kind' as kind, selection from jobs order by id")
    assert sorted((row["kind"], row["selection"]["addresses"]) for row in rows) == [
        ("feedback", 1),
        ("manual", 3),
    ]
    for again, limit in ((told, applied), (told[:3], 3), (told[1:2], 1)):
        clock.stop_after(limit)
        answer = await post_events(http, hook, again)
        assert not any(each["created"] for each in answer.json()["events"])
    assert await pool.fetchval("select count(*) from jobs") == 2


@pytest.mark.parametrize("applied", [0, 1, 2])
async def test_an_id_keeps_its_meaning_when_workers_apply_it(
    http, pool, hook, accounts, clock, applied
):
    """An id that stood for something else is a conflict, in the same message and in later ones."""
    clock.stop_after(applied)
    told = [
        event(event_id="2", address=BOB),
        event(event_id="1", address=ANN),
        event(event_id="1", address=BOB),
        event(event_id="1", address=ANN),
    ]
    answer = await post_events(http, hook, told)
    assert events_in_conflict(answer) == [False, False, True, False]
    assert [each["created"] for each in answer.json()["events"]] == [True, True, False, False]
    stored = await pool.fetchval("select count(*) from jobs")
    other = [event(event_id="1", address="other@x.example")]
    for limit in (0, 1):
        clock.stop_after(limit)
        assert events_in_conflict(await post_events(http, hook, other)) == [True]
    assert await pool.fetchval("select count(*) from jobs") == stored


@pytest.mark.parametrize("applied", [0, 2])
async def test_what_workers_could_not_do_is_done_when_it_comes_again(
    http, pool, hook, accounts, clock, applied
):
    """The job with what was left of a message may have been cancelled."""
    told = [event(event_id="1", address=ANN), event(event_id="2", address=BOB)]
    clock.stop_after(0)
    await post_events(http, hook, told)
    await pool.execute("update jobs set state = 'cancelled', finished_at = clock_timestamp()")
    clock.stop_after(applied)
    again = await post_events(http, hook, told)
    assert [each["created"] for each in again.json()["events"]] == [True, True]
    assert [each["applied"] for each in again.json()["events"]] == [applied > 0] * 2


async def test_a_form_of_more_fields_than_any_is_refused(http, pool, hook, accounts):
    """Before each of them is looked at; as many as that are read."""
    fill_up = "&".join(f"f{n}=x" for n in range(form_parser.MAX_FIELDS - 1))
    for more, status in ((f"&email={ANN}", 200), (f"&x=1&email={BOB}", 422)):
        answer = await http.post(hook.form_path, content=fill_up + more, headers=FORM)
        assert answer.status_code == status, answer.text
    assert await pool.fetchval("select count(*) from jobs") == 1


@pytest.mark.parametrize("signs", [True, False])
async def test_a_message_of_too_many_values_is_refused(http, pool, hook, accounts, signs):
    """By a sentence that says so, whatever they are."""
    for part in ("[],", '{"a":1},', '"",'):
        body = f'{{"email": "{ANN}", "more": [{part * 300_000}0]}}'.encode()
        path = hook.events_path if signs else hook.form_path
        answer = await http.post(path, content=body, headers=signed(hook.secret, body))
        assert "300,000 values" in problem_detail(answer, 422, "invalid")
    assert await pool.fetchval("select count(*) from jobs") == 0


@pytest.mark.parametrize("signs", [True, False])
async def test_a_mail_with_many_commas_refuses_no_event(http, pool, hook, accounts, signs):
    """Some senders put the whole mail beside the address, and what is attached to it."""
    body = json.dumps({"email": ANN, "mail": 'a{"b", ' * 160_000}).encode()
    path = hook.events_path if signs else hook.form_path
    headers = signed(hook.secret, body) | {"Content-Type": "application/json"}
    answer = await http.post(path, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert await pool.fetchval("select count(*) from results where outcome = 'applied'") > 0


async def test_a_number_of_any_length_refuses_no_event(http, pool, hook, accounts):
    """As the event's id, and beside it: each is what it is told by."""
    for number, (address, id_) in enumerate([(ANN, "7" * 5_000), (BOB, "7" * 5_001)], start=1):
        body = f'{{"event_id": {id_}, "email": "{address}", "at": -{"1" * 9_000}}}'.encode()
        answer = await http.post(hook.events_path, content=body, headers=signed(hook.secret, body))
        (done,) = answer.json()["events"]
        assert (done["event_id"], done["applied"], done["created"]) == (id_, True, True)
        assert await pool.fetchval("select count(*) from jobs") == number
