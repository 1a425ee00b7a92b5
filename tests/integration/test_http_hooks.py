"""Hooks: only the token or the secret opens one, and no response tells about the account."""

import json
import time
from urllib.parse import urlencode

import pytest
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from producers.hooks import create_hook, revoke_hook, rotate_hook_secret
from runtime.signing import signature
from schemas.errors import InvalidRequest, NotFound
from tests.kit.factories import statuses_of
from tests.kit.hook_messages import FORM, event, post_events, refusals, signed
from tests.kit.property_examples import check_property
from tests.kit.recipients import (
    ANN,
    BOB,
    OPEN,
    TAILS,
    problem_detail,
    read_everything,
)
from tests.unit.test_rate_limit import Clock
from web import cached_list
from web.peers import FailedAuthLimiter


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
