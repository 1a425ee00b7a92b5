"""Hooks: only the token or the secret opens one, and no response discloses the account."""

import json
import time
from urllib.parse import urlencode

import pytest
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from producers.hooks import create_hook, renew_hook_secret, revoke_hook
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


async def test_an_invalid_token_is_not_found(http, pool, settings, hook, other_hook):
    """Guessed, changed and unknown tokens, and a digest with another hook's id, get 404."""
    before = await read_everything(pool)
    head, _, mac = hook.form_path.rpartition(".")
    other_head = other_hook.form_path.rpartition(".")[0]
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
    assert refusals(logs) == [(hook.id, "invalid_token"), (other_hook.id, "invalid_token")]
    assert await read_everything(pool) == before


async def test_characters_after_the_token_are_ignored(http, pool, hook, accounts):
    """A slash or a full stop that was copied with the URL makes no difference."""
    for number, tail in enumerate(TAILS):
        data = {"email": f"{number}@x.example"}
        answer = await http.post(f"{hook.form_path}{tail}?x=%00", data=data)
        assert (answer.status_code, answer.json()["applied"]) == (200, True), tail


async def test_an_invalid_signature_is_rejected(http, pool, settings, hook, other_hook):
    """A signature of another body, time or hook, a malformed one or none gets 401, whatever the
    body.
    """
    body = json.dumps(event()).encode()
    valid = signed(hook.secret, body)
    timestamp, signature_header = valid["Sluice-Timestamp"], valid["Sluice-Signature"]
    before = await read_everything(pool)
    with capture_logs() as logs:
        for headers in (
            {},
            {"Sluice-Timestamp": timestamp},
            {"Sluice-Signature": signature_header},
            valid | {"Sluice-Signature": signature_header.removeprefix("v1=")},
            valid | {"Sluice-Signature": signature_header.replace("v1=", "v2=")},
            valid | {"Sluice-Signature": "v1="},
            valid | {"Sluice-Signature": signature_header[:-1]},
            valid | {"Sluice-Signature": b"v1=\xff"},
            valid | {"Sluice-Timestamp": str(int(timestamp) + 1)},
            valid | {"Sluice-Timestamp": "now"},
            valid | {"Sluice-Timestamp": ""},
            {"Sluice-Timestamp": "now", "Sluice-Signature": signature(hook.secret, "now", body)},
            signed(other_hook.secret, body),
            signed(hook.secret, body + b" "),
        ):
            answer = await http.post(hook.events_path, content=body, headers=headers)
            problem_detail(answer, 401, "invalid-signature")
        answer = await http.post(hook.events_path, content=b"{", headers=valid)
        problem_detail(answer, 401, "invalid-signature")
    assert set(refusals(logs)) == {(hook.id, "invalid_signature")}
    assert len(refusals(logs)) == 15
    assert await read_everything(pool) == before


@pytest.mark.parametrize("seconds", [-310, 310, -(10**9)])
async def test_a_message_is_valid_for_five_minutes(http, pool, hook, accounts, seconds):
    """A correctly signed message is rejected if it is more than five minutes old or ahead."""
    before = await read_everything(pool)
    answer = await post_events(http, hook, event(), at=time.time() + seconds)
    problem_detail(answer, 401, "stale-timestamp")
    assert await read_everything(pool) == before
    assert (await post_events(http, hook, event(), at=time.time() - 290)).status_code == 200


async def test_a_signature_covers_every_byte(http, pool, hook, accounts):
    """A body that differs in one byte from the signed one is rejected."""
    body = json.dumps(event()).encode()
    headers = signed(hook.secret, body)

    async def require_refusal(at, byte):
        changed = body[:at] + bytes([byte]) + body[at + 1 :]
        if changed != body:
            answer = await http.post(hook.events_path, content=changed, headers=headers)
            problem_detail(answer, 401, "invalid-signature")

    await check_property(
        require_refusal, st.integers(0, len(body) - 1), st.integers(0, 255), max_examples=30
    )
    assert await pool.fetchval("select count(*) from jobs") == 0


async def test_a_hook_changes_only_its_own_account(http, pool, hook, other_hook, accounts):
    """With the same address, event and source, each hook opts out in its own account."""
    for own in (hook, other_hook):
        (result,) = (await post_events(http, own, event())).json()["events"]
        assert result["created"]
    assert {row["account_id"] for row in await pool.fetch("select account_id from jobs")} == set(
        accounts.values()
    )


@pytest.mark.parametrize("number", ["0", "-1", "99", str(2**63)])
async def test_an_unknown_hook_looks_like_a_wrong_secret(http, accounts, number):
    """An unknown hook gets the same answer as a hook with a wrong secret."""
    for headers in ({}, signed("x" * 64, b"{}")):
        answer = await http.post(f"/v1/hooks/{number}/events", content=b"{}", headers=headers)
        problem_detail(answer, 401, "invalid-signature")


def without_correlation_id(answer):
    """Return a whole answer except its correlation id, which is random."""
    headers = [(n, v) for n, v in answer.headers.multi_items() if n != "x-correlation-id"]
    return answer.status_code, headers, answer.content


UNSIGNED = (
    {},
    {"Sluice-Signature": "v1="},
    signed("0" * 64, b"{}"),
    signed("0" * 64, b"{}", at=0),
)


async def test_responses_do_not_disclose_which_hooks_exist(http, pool, settings, hook, other_hook):
    """Existing, revoked, renewed and unknown hooks get byte-identical answers without the secret.
    The same holds for form tokens.
    """
    revoked = await create_hook(pool, settings, account="default", source="old")
    await revoke_hook(pool, revoked.id)
    await renew_hook_secret(pool, settings, other_hook.id)
    numbers = (hook.id, other_hook.id, revoked.id, 99, 0, -1, 2**62, 2**63)
    for headers in UNSIGNED:
        paths = [f"/v1/hooks/{number}/events" for number in numbers]
        answers = [await http.post(path, content=b"{}", headers=headers) for path in paths]
        assert {without_correlation_id(answer)[0] for answer in answers} == {401}
        assert all(
            without_correlation_id(answer) == without_correlation_id(answers[0])
            for answer in answers
        )
    key_id, _, mac = hook.form_path.rpartition("/")[2].split(".")
    wrong = "".join(reversed(mac))
    tokens = [f"{key_id}.{number}.{wrong}" for number in numbers]
    tokens += ["x", f"00000000.{hook.id}.{mac}", f"{hook.id}.{mac}", revoked.form_path[15:]]
    answers = [await http.post(f"/v1/hooks/form/{each}", data={"email": ANN}) for each in tokens]
    assert {without_correlation_id(answer)[0] for answer in answers} == {404}
    assert all(
        without_correlation_id(answer) == without_correlation_id(answers[0]) for answer in answers
    )


async def test_wrong_guesses_do_not_block_valid_hooks(app, http, hook, pool, settings, monkeypatch):
    """Wrong guesses from one network address do not block opt-outs of valid hooks. This includes
    hooks created or renewed after the last guess.
    """
    monkeypatch.setattr(cached_list, "MIN_REFRESH_SECONDS", 0.01)
    app.state.sluice.failed_auth_limiter = FailedAuthLimiter(5, Clock())
    with capture_logs() as logs:
        answers = [await http.post(f"/v1/hooks/{n}/events", content=b"{}") for n in range(20)]
        answers += [await http.post(f"/v1/hooks/form/x{n}", data={"email": ANN}) for n in range(9)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 24
    problem_detail(answers[-1], 429, "too-many-requests")
    assert answers[-1].headers["retry-after"] == "12"
    (line,) = [line for line in logs if line["event"] == "peer.limited"]
    assert "127.0.0.1" not in str(line)
    assert (await post_events(http, hook, event())).status_code == 200
    assert (await http.post(hook.form_path, data={"email": BOB})).status_code == 200
    assert (await http.post(hook.form_path, data={"email": "no"})).status_code == 422
    for _ in range(2):
        created = await create_hook(pool, settings, account="default", source="new")
        assert (await http.post(created.form_path, data={"email": BOB})).status_code == 200
        renewed = await renew_hook_secret(pool, settings, created.id, former_days=0)
        assert (await post_events(http, renewed, event())).status_code == 200
        assert (await http.post(created.form_path, data={"email": BOB})).status_code == 429


async def test_a_renewed_hook_accepts_both_secrets_for_a_while(http, pool, settings, hook):
    """The former secret and form path are valid next to the new ones for the given time."""
    new = await renew_hook_secret(pool, settings, hook.id)
    assert (new.id, new.secret != hook.secret, new.form_path != hook.form_path) == (1, True, True)
    for number, each in enumerate((hook, new)):
        answer = await post_events(http, each, event(event_id=f"e{number}"))
        assert answer.status_code == 200
        assert (await http.post(each.form_path, data={"email": ANN})).status_code == 200
    await pool.execute("update hooks set former_until = clock_timestamp()")
    problem_detail(await post_events(http, hook, event()), 401, "invalid-signature")
    problem_detail(await http.post(hook.form_path, data={"email": ANN}), 404, "not-found")
    assert (await post_events(http, new, event())).status_code == 200
    newest = await renew_hook_secret(pool, settings, hook.id, former_days=0)
    problem_detail(await post_events(http, new, event()), 401, "invalid-signature")
    assert (await post_events(http, newest, event())).status_code == 200
    for wrong in (-1, 367):
        with pytest.raises(InvalidRequest):
            await renew_hook_secret(pool, settings, hook.id, former_days=wrong)
    await revoke_hook(pool, hook.id)
    for unknown in (hook.id, 99, 0, 2**63):
        with pytest.raises(NotFound):
            await renew_hook_secret(pool, settings, unknown)


async def test_a_hook_is_valid_while_its_signing_key_is_listed(app, http, pool, settings, hook):
    """A hook's secret and path are valid while their signing key is listed, first or not. With a
    dropped key they are rejected without an error.
    """
    old, new = settings.signing_keys.get_secret_value(), "the-next-key-of-this-test-and-no-other"
    for keys, listed in ((f"{new},{old}", True), (new, False), (f"{old},{new}", True)):
        app.state.sluice.settings = settings.model_copy(update={"signing_keys": SecretStr(keys)})
        answers = (
            await post_events(http, hook, event()),
            await http.post(hook.form_path, data={"email": ANN}),
        )
        assert [answer.status_code for answer in answers] == ([200, 200] if listed else [401, 404])


# Forms and events


async def test_a_revoked_hook_is_not_found(http, pool, hook, other_hook):
    """A revoked hook is rejected from the next request on, for forms and events. Other hooks still
    work.
    """
    before = await read_everything(pool)
    await revoke_hook(pool, hook.id)
    with capture_logs() as logs:
        problem_detail(await post_events(http, hook, event()), 404, "not-found")
        problem_detail(await http.post(hook.form_path, data={"email": ANN}), 404, "not-found")
    assert refusals(logs) == [(hook.id, "revoked")] * 2
    assert await read_everything(pool) == before
    assert (await post_events(http, other_hook, event())).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_other_methods_change_nothing(http, pool, hook, accounts, method):
    """Hooks accept only POST."""
    before = await read_everything(pool)
    query = urlencode({"email": ANN})
    for path in (hook.form_path, hook.events_path):
        assert (await http.request(method, f"{path}?{query}")).status_code == 405
    assert await read_everything(pool) == before


async def test_addresses_in_the_query_are_not_read(http, pool, hook, accounts):
    """Addresses in the query are ignored, since routers on the way would log them."""
    answer = await http.post(f"{hook.form_path}?email={ANN}", data={"name": "Ann"})
    problem_detail(answer, 422, "invalid")
    assert (await statuses_of(pool, accounts["default"]))[ANN] == OPEN


async def test_bodies_have_a_size_limit(http, hook, accounts):
    """A body without a key has a size limit, which is checked before the signature."""
    body = b"email=" + b"x" * 5_000_000
    problem_detail(
        await http.post(hook.form_path, content=body, headers=FORM), 413, "body-too-large"
    )
    problem_detail(await http.post(hook.events_path, content=body), 413, "body-too-large")


async def test_logs_and_answers_disclose_no_secret(http, hook, other_hook, accounts):
    """Log lines have no address, token or secret, and answers have no account name."""
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
    logged = json.dumps(logs, default=str)
    for secret in (token, token.partition(".")[2], hook.secret, "x.example"):
        assert secret not in logged
    assert "default" not in " ".join(answer.text for answer in answers)


@pytest.mark.parametrize("source", ["", "two words", "-x", "ä", "x\n", "x" * 101, "\x00"])
async def test_a_source_is_one_word(pool, settings, source):
    """A source is one word, so that source and event id together are unambiguous."""
    with pytest.raises(InvalidRequest, match="cannot be the source"):
        await create_hook(pool, settings, account="default", source=source)
    with pytest.raises(NotFound, match="no account"):
        await create_hook(pool, settings, account="nobody", source="keap")
    assert await pool.fetchval("select count(*) from hooks") == 0


async def test_no_signing_secret_is_stored(pool, hook):
    """The table has a random salt, useless without `SIGNING_KEYS`. Neither the row nor the repr has
    secrets.
    """
    row = str(dict(await pool.fetchrow("select * from hooks where id = $1", hook.id)))
    token = hook.form_path.rpartition(".")[2]
    for secret in (hook.secret, token):
        assert secret not in row
        assert secret not in repr(hook)
