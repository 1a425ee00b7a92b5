"""One-click links: any POST opts out, and no other request does."""

import asyncio
import itertools
import json
import re
from urllib.parse import quote

import httpx
import pytest
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from producers.one_click import one_click_url
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
from web.peers import FailedAuthLimiter
from web.routes import unsubscribe

BUTTON = {"List-Unsubscribe": "One-Click"}
PAGE = {"confirm": "yes"}
BASE = "http://sluice.test/"


@pytest.fixture
async def accounts(pool):
    """Create two accounts with the same contacts."""
    return await make_couples(pool)


async def link_to(pool, settings, account_id, address=ANN):
    """Return the one-click link of the account's address."""
    address_id = await pool.fetchval(
        "select id from email_addresses where account_id = $1 and match_key = $2",
        account_id,
        address,
    )
    return one_click_url(settings, BASE, account_id, address_id)


@pytest.fixture
async def link(pool, settings, accounts):
    """Return the one-click link of an address of the default account."""
    return await link_to(pool, settings, accounts["default"])


def encode_multipart(fields: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """Return the fields as multipart/form-data, which RFC 8058 recommends."""
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return f"{parts}--b--\r\n".encode(), {"Content-Type": "multipart/form-data; boundary=b"}


async def test_the_mail_clients_button_unsubscribes(http, pool, accounts, link):
    """The answer is no redirect, and the opt-out is already applied. It is propagated to the
    sibling, in that account only.
    """
    answer = await http.post(link, data=BUTTON)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "You are unsubscribed" in answer.text
    assert "set-cookie" not in answer.headers
    assert await statuses_of(pool, accounts["default"]) == {
        ANN: ("list_unsubscribe", False),
        FAMILY: ("manual", True),
        BOB: OPEN,
    }
    assert set((await statuses_of(pool, accounts["other"])).values()) == {OPEN}


async def test_the_button_may_send_multipart(http, pool, accounts, link):
    """A multipart body has the same effect as a URL-encoded one."""
    body, headers = encode_multipart(BUTTON)
    assert (await http.post(link, content=body, headers=headers)).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("list_unsubscribe", False)


async def test_the_page_has_a_button_that_unsubscribes(http, pool, accounts, link):
    """The form on the page posts its hidden field to the page's own URL."""
    page = (await http.get(link)).text
    assert re.search(r'<form method="post">', page)
    (field,) = re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)">', page)
    assert '<html lang="en">' in page
    assert (await http.post(link, data=dict([field]))).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_looking_at_a_link_changes_nothing(http, pool, accounts, link, method):
    """A GET or HEAD by a virus scanner or a mail preview changes nothing."""
    before = await read_everything(pool)
    answer = await http.request(method, link)
    assert answer.status_code == 200
    assert (answer.text == "") == (method == "HEAD")
    assert await read_everything(pool) == before


async def test_pages_load_nothing_and_leak_nothing(http, accounts, link):
    """The headers keep the link out of caches, referrers and frames. The page shows no data."""
    for answer in (await http.get(link), await http.post(link, data=PAGE)):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        policy = answer.headers["content-security-policy"]
        for part in (
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ):
            assert part in policy
        assert "set-cookie" not in answer.headers
        assert not re.search(r"x\.example|default|<script|https?:", answer.text)


URLENCODED = "application/x-www-form-urlencoded"


BODIES = (
    (b"", "list_unsubscribe"),
    (b"List-Unsubscribe=One-Click\r\n", "list_unsubscribe"),
    (b"list-unsubscribe=one-click", "list_unsubscribe"),
    (b"List-Unsubscribe=One-Click&more=1", "list_unsubscribe"),
    (b"List-Unsubscribe=One-Click&List-Unsubscribe=One-Click", "list_unsubscribe"),
    (b"List-Unsubscribe=One-Click&confirm=yes", "list_unsubscribe"),
    (b'{"List-Unsubscribe": "One-Click"}', "list_unsubscribe"),
    (b"confirm=no", "list_unsubscribe"),
    (b"confirm=yes\x00", "list_unsubscribe"),
    (b"--b\r\ngarbage", "list_unsubscribe"),
    (b"\xff\xfe\x00", "list_unsubscribe"),
    (b"&" * 3, "list_unsubscribe"),
    (b"[" * 100_000, "list_unsubscribe"),
    (b"a&" * 100_000, "list_unsubscribe"),
    (b"x" * 5_000_000, "list_unsubscribe"),
    (b"confirm=yes", "manual"),
    (b"confirm=yes\r\n", "manual"),
    (b"more=1&Confirm=Yes", "manual"),
    (b'{"confirm": "yes"}', "manual"),
)
SENT_AS = (URLENCODED, "multipart/form-data; boundary=b", "application/json", "\xff", "")


async def test_any_post_opts_out(http, pool, settings, accounts):
    """Any body of any content type opts out; it decides only which kind of opt-out is recorded."""
    for number, ((body, kind), sent_as) in enumerate(itertools.product(BODIES, SENT_AS)):
        link = await make_contact_link(pool, settings, accounts, number)
        headers = {"Content-Type": sent_as.encode("latin-1")} if sent_as else {}
        for _ in range(2):
            assert (await http.post(link, content=body, headers=headers)).status_code == 200
        now = await statuses_of(pool, accounts["default"])
        assert now[f"{number}@y.example"] == (kind, False), (body[:50], sent_as)
        assert await pool.fetchval("select count(*) from jobs") == number + 1


async def make_contact_link(pool, settings, accounts, number):
    """Create a contact and return its one-click link."""
    address = f"{number}@y.example"
    await fill(pool, accounts["default"], {1000 + number: {1: address}}, {address: OPEN})
    return await link_to(pool, settings, accounts["default"], address)


async def test_any_bytes_posted_to_any_form_of_the_link_opt_out(http, pool, settings, accounts):
    """Any body, content type and query is accepted, and any tail that begins with no word
    character.
    """
    numbers = itertools.count()

    async def opted_out(body, sent_as, tail, query):
        number = next(numbers)
        link = await make_contact_link(pool, settings, accounts, number)
        answer = await http.post(
            f"{link}{quote(tail)}?{quote(query)}", content=body, headers={"Content-Type": sent_as}
        )
        assert answer.status_code == 200
        status, _ = (await statuses_of(pool, accounts["default"]))[f"{number}@y.example"]
        assert status in {"list_unsubscribe", "manual"}

    plain = st.text(st.characters(codec="utf-8"), max_size=20)
    # The client itself resolves "..", so a tail must not contain it.
    tails = plain.filter(lambda tail: not re.match("[A-Za-z0-9]", tail) and ".." not in tail)
    await check_property(
        opted_out,
        st.binary(),
        st.sampled_from([URLENCODED, "multipart/form-data; boundary=b", "", "é;charset=utf-7"]).map(
            lambda text: text.encode("latin-1")
        ),
        tails,
        plain,
        max_examples=40,
    )


async def test_text_after_a_link_does_not_matter(http, pool, settings, accounts):
    """A slash, a full stop, a bracket or the rest of a sentence after the link does no harm, and
    causes no redirect.
    """
    for number, tail in enumerate(TAILS):
        link = await make_contact_link(pool, settings, accounts, number)
        before = await read_everything(pool)
        for method in ("GET", "HEAD"):
            assert (await http.request(method, f"{link}{tail}")).status_code == 200, tail
        assert await read_everything(pool) == before
        answer = await http.post(f"{link}{tail}?utm_source=%00", data=BUTTON)
        assert (answer.status_code, "You are unsubscribed" in answer.text) == (200, True), tail
        now = await statuses_of(pool, accounts["default"])
        assert now[f"{number}@y.example"] == ("list_unsubscribe", False)


async def test_text_after_an_invalid_link_does_not_make_it_valid(http, pool, accounts, link):
    """A link with an invalid signature is not found, whatever follows it."""
    before = await read_everything(pool)
    last = "A" if link[-1] != "A" else "B"
    for tail in TAILS:
        for wrong in (link[:-1] + tail, link[:-1] + last + tail, f"{link}A{tail}", f"{link}9"):
            problem_detail(await http.post(wrong, data=BUTTON), 404, "not-found")
            assert (await http.get(wrong)).status_code == 404
    assert await read_everything(pool) == before


async def test_a_valid_link_works_after_many_invalid_ones(app, http, pool, accounts, link):
    """After many wrong links from one peer, further ones are answered 429. The right link still
    opts out.
    """
    app.state.sluice.failed_auth_limiter = FailedAuthLimiter(3, Clock())
    wrong = [(await http.post(f"{link}A", data=BUTTON)).status_code for _ in range(6)]
    assert wrong == [404] * 3 + [429] * 3
    page = await http.get(f"{link}A", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["retry-after"]) == (429, "20")
    assert "This link does not work" in page.text
    assert "Unsubscribe?" in (await http.get(link)).text
    assert (await http.post(link, data=BUTTON)).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("list_unsubscribe", False)


async def test_a_link_works_as_long_as_its_key_is_listed(app, http, settings, link):
    """A link is valid while its key is listed, whichever key signs new links. Once the key is
    removed, it is not found.
    """
    old, new = settings.signing_keys.get_secret_value(), "the-next-key-of-this-test-and-no-other"
    for keys, status in ((f"{new} {old}", 200), (new, 404), (f"{old} {new}", 200)):
        app.state.sluice.settings = settings.model_copy(update={"signing_keys": SecretStr(keys)})
        assert (await http.post(link, data=BUTTON)).status_code == status


@pytest.mark.parametrize("stops", ["broken off", "too slow"])
async def test_an_incomplete_body_still_opts_out(app, pool, accounts, link, monkeypatch, stops):
    """The part of the body that arrived tells which kind of opt-out it is. The connection is then
    closed.
    """
    monkeypatch.setattr(unsubscribe, "_BODY_TIMEOUT_SECONDS", 0.1)
    parts = [{"type": "http.request", "body": b"confirm=yes", "more_body": True}]
    sent = []

    async def receive():
        if parts:
            return parts.pop()
        if stops == "too slow":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    path = link.removeprefix(BASE[:-1])
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode()}
    scope |= {"headers": [(b"content-length", b"100")], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"connection"]) == (200, b"close")
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


async def test_a_browser_gets_errors_as_a_page(http, pool, accounts, link):
    """A browser gets an HTML page with the status that a program gets as a problem. Nothing
    changes.
    """
    before = await read_everything(pool)
    answer = await http.post(f"{link}x", data=PAGE, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (answer.status_code, "This link does not work" in answer.text) == (404, True)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert (await http.post(f"{link}x", data=PAGE)).json()["status"] == 404
    assert await read_everything(pool) == before


async def test_a_browser_gets_a_page_while_postgres_is_down(http, app, link):
    """During an outage a browser gets an HTML page, not a JSON problem, with Retry-After."""
    app.state.sluice.pool.terminate()
    answer = await http.post(link, data=PAGE, headers={"Accept": "text/html"})
    assert (answer.status_code, "Please try again" in answer.text) == (503, True)
    assert int(answer.headers["retry-after"]) > 0


async def test_a_link_may_have_added_query_parameters(http, pool, accounts, link):
    """Query parameters added for click tracking do not prevent the opt-out."""
    tracked_link = f"{link}?utm_source=mail&x"
    assert (await http.get(tracked_link)).status_code == 200
    assert (await http.post(tracked_link, data=BUTTON)).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("list_unsubscribe", False)


async def test_an_endless_body_is_read_only_up_to_the_limit(app, pool, accounts, link):
    """At most the limit is read of an endless body, so no request can fill the memory."""
    bytes_read = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self):
            nonlocal bytes_read
            while True:
                bytes_read += 100_000
                yield b"x" * 100_000

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as http:
        answer = await http.post(link, content=Endless())
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert bytes_read < 5_000_000
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("list_unsubscribe", False)


async def test_an_invalid_link_is_not_found(http, pool, settings, accounts, link):
    """A link that was changed, cut off or invented is not found. Nor is one to an address that does
    not exist or is another account's.
    """
    before = await read_everything(pool)
    head, _, mac = link.rpartition(".")
    path, _, address_id = head.rpartition(".")
    wrong = [
        link[:-1],
        f"{head}.{mac[::-1]}",
        f"{path}.{int(address_id) + 1}.{mac}",
        f"{BASE}v1/unsubscribe/x",
        one_click_url(settings, BASE, accounts["default"], 2**62),
        one_click_url(settings, BASE, accounts["other"], int(address_id)),
    ]
    for url in wrong:
        problem_detail(await http.post(url, data=BUTTON), 404, "not-found")
        page = await http.get(url)
        assert (page.status_code, page.headers["content-type"]) == (
            404,
            "text/html; charset=utf-8",
        )
        assert (await http.head(url)).status_code == 404
    assert await read_everything(pool) == before


async def test_clicking_again_the_same_day_is_one_job(http, pool, accounts, link):
    """The same kind of request on one day is one job. The other kind is a second job, which finds
    nothing to change.
    """
    for fields in (BUTTON, BUTTON, PAGE, PAGE):
        assert (await http.post(link, data=fields)).status_code == 200
    rows = await pool.fetch("select params, idempotency_key from jobs order by id")
    assert [row["params"]["kind"] for row in rows] == ["list_unsubscribe", "manual"]
    assert all(re.fullmatch(r"one-click \d+ \w+ \d{4}-\d\d-\d\d", row[1]) for row in rows)


async def test_neither_link_nor_log_contains_the_address(http, accounts, link):
    """The link names the address by its id, and log lines name the route."""
    assert "@" not in link
    assert "x.example" not in link
    with capture_logs() as logs:
        await http.post(link, data=BUTTON)
    token = link.rpartition("/")[2]
    logged = json.dumps(logs, default=str)
    assert "/v1/unsubscribe/{token}" in logged
    assert token not in logged
    assert "x.example" not in logged


def test_links_begin_with_the_public_url(settings):
    """A link begins with PUBLIC_URL if it is set, or else with the base URL of the request."""
    token = one_click_url(settings, BASE, 1, 2).removeprefix(f"{BASE}v1/unsubscribe/")
    public = settings.model_copy(update={"public_url": "https://mail.example/s"})
    assert one_click_url(public, BASE, 1, 2) == f"https://mail.example/s/v1/unsubscribe/{token}"
