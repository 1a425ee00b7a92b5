"""Links to unsubscribe: a POST does it, as RFC 8058 has it, and nothing else does."""

import json
import re

import pytest
from structlog.testing import capture_logs

from producers.one_click import one_click_url
from tests.recipients import ANN, BOB, FAMILY, OPEN, all_there_is, couples, problem
from tests.worlds import statuses_of

BUTTON = {"List-Unsubscribe": "One-Click"}
PAGE = {"confirm": "yes"}
BASE = "http://sluice.test/"


@pytest.fixture
async def accounts(pool):
    return await couples(pool)


async def link_to(pool, settings, account_id, address=ANN):
    address_id = await pool.fetchval(
        "select id from email_addresses where account_id = $1 and match_key = $2",
        account_id,
        address,
    )
    return one_click_url(settings, BASE, account_id, address_id)


@pytest.fixture
async def link(pool, settings, accounts):
    return await link_to(pool, settings, accounts["default"])


def boundary(fields: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """The fields as multipart/form-data, as RFC 8058 would rather have them."""
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return f"{parts}--b--\r\n".encode(), {"Content-Type": "multipart/form-data; boundary=b"}


async def test_the_mail_clients_button_unsubscribes(http, pool, accounts, link):
    """At once, with the person's other address, in that account alone, and without a redirect."""
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
    """Both ways in which mail clients send it are one."""
    body, headers = boundary(BUTTON)
    assert (await http.post(link, content=body, headers=headers)).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("list_unsubscribe", False)


async def test_the_page_asks_and_its_button_unsubscribes(http, pool, accounts, link):
    """The form on the page posts to the page's own URL what its hidden field says."""
    page = (await http.get(link)).text
    assert re.search(r'<form method="post">', page)
    (field,) = re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)">', page)
    assert '<html lang="en">' in page
    assert (await http.post(link, data=dict([field]))).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("manual", False)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_to_look_at_a_link_changes_nothing(http, pool, accounts, link, method):
    """As virus scanners do, and mail clients that show previews."""
    before = await all_there_is(pool)
    answer = await http.request(method, link)
    assert answer.status_code == 200
    assert (answer.text == "") == (method == "HEAD")
    assert await all_there_is(pool) == before


async def test_pages_load_nothing_and_tell_nobody(http, accounts, link):
    """Their headers keep the link from caches, from referrers and from frames; no data is shown."""
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


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"List-Unsubscribe": "one-click"},
        {"confirm": "no"},
        {"confirm": "yes\x00"},
        BUTTON | {"more": "1"},
        BUTTON | PAGE,
    ],
)
async def test_any_other_form_changes_nothing(http, pool, accounts, link, fields):
    """What is not clearly one of the two is refused."""
    before = await all_there_is(pool)
    problem(await http.post(link, data=fields), 400, "malformed")
    assert await all_there_is(pool) == before


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"List-Unsubscribe=One-Click", "text/plain"),
        (b'{"List-Unsubscribe": "One-Click"}', "application/json"),
        (b"", ""),
        (b"garbage", "multipart/form-data"),
        (b"--b\r\ngarbage", "multipart/form-data; boundary=b"),
        (b"&" * 3, "application/x-www-form-urlencoded"),
    ],
)
async def test_any_other_body_changes_nothing(http, pool, accounts, link, body, kind):
    """Nor does it end in anything but a sentence."""
    before = await all_there_is(pool)
    answer = await http.post(link, content=body, headers={"Content-Type": kind} if kind else {})
    problem(answer, 400, "malformed")
    assert await all_there_is(pool) == before


@pytest.mark.parametrize(
    ("path", "fields", "status", "says"),
    [
        ("x", PAGE, 404, "This link does not work"),
        ("", {"confirm": "no"}, 400, "Nothing was changed"),
        ("", {"confirm": "yes" * 2_000_000}, 413, "Nothing was changed"),
    ],
)
async def test_a_browser_is_shown_a_page_of_what_went_wrong(
    http, pool, accounts, link, path, fields, status, says
):
    """With the same status as the problem that a program gets, and with nothing changed."""
    before = await all_there_is(pool)
    answer = await http.post(link + path, data=fields, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (answer.status_code, says in answer.text) == (status, True)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert (await http.post(link + path, data=fields)).json()["status"] == status
    assert await all_there_is(pool) == before


async def test_a_browser_is_asked_to_come_again_where_postgres_is_away(http, app, link):
    """A page, and not a problem in JSON, with the time to wait for programs that read it."""
    app.state.here.pool.terminate()
    answer = await http.post(link, data=PAGE, headers={"Accept": "text/html"})
    assert (answer.status_code, "Please try again" in answer.text) == (503, True)
    assert int(answer.headers["retry-after"]) > 0


async def test_a_link_may_have_parameters_that_others_added(http, pool, accounts, link):
    """Whoever counts clicks adds some, and that keeps nobody from unsubscribing."""
    counted = f"{link}?utm_source=mail&x"
    assert (await http.get(counted)).status_code == 200
    assert (await http.post(counted, data=BUTTON)).status_code == 200
    assert (await statuses_of(pool, accounts["default"]))[ANN] == ("list_unsubscribe", False)


async def test_a_body_too_large_is_not_read(http, pool, accounts, link):
    """Nobody without a key may fill the memory."""
    body = b"List-Unsubscribe=One-Click&x=" + b"x" * 5_000_000
    answer = await http.post(
        link, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    problem(answer, 413, "too-large")


async def test_a_link_that_is_none_is_not_there(http, pool, settings, accounts, link):
    """Changed, cut off, made up, of an address that is no more, or of another account's."""
    before = await all_there_is(pool)
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
        problem(await http.post(url, data=BUTTON), 404, "not-found")
        shown = await http.get(url)
        assert (shown.status_code, shown.headers["content-type"]) == (
            404,
            "text/html; charset=utf-8",
        )
        assert (await http.head(url)).status_code == 404
    assert await all_there_is(pool) == before


async def test_clicking_again_the_same_day_is_one_job(http, pool, accounts, link):
    """By the same way; by the other it is another act, which finds nothing to change."""
    for fields in (BUTTON, BUTTON, PAGE, PAGE):
        assert (await http.post(link, data=fields)).status_code == 200
    rows = await pool.fetch("select params, idempotency_key from jobs order by id")
    assert [row["params"]["kind"] for row in rows] == ["list_unsubscribe", "manual"]
    assert all(re.fullmatch(r"one-click \d+ \w+ \d{4}-\d\d-\d\d", row[1]) for row in rows)


async def test_neither_url_nor_lines_hold_the_address(http, accounts, link):
    """The link names it by its id; lines name the route."""
    assert "@" not in link
    assert "x.example" not in link
    with capture_logs() as logs:
        await http.post(link, data=BUTTON)
    token = link.rpartition("/")[2]
    told = json.dumps(logs, default=str)
    assert "/v1/unsubscribe/{token}" in told
    assert token not in told
    assert "x.example" not in told


def test_links_begin_with_where_others_reach_us(settings):
    """With PUBLIC_URL where it is set, and otherwise as the caller has asked."""
    token = one_click_url(settings, BASE, 1, 2).removeprefix(f"{BASE}v1/unsubscribe/")
    public = settings.model_copy(update={"public_url": "https://mail.example/s"})
    assert one_click_url(public, BASE, 1, 2) == f"https://mail.example/s/v1/unsubscribe/{token}"
