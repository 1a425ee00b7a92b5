"""The peer of a request, and how many failed authentications it may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.settings import Settings
from tests.unit.test_rate_limit import Clock
from web.peers import MAX_PEERS, FailedAuthLimiter, get_peer


def scope(*forwarded: str, client: tuple[str, int] | None = ("10.0.0.1", 5)):
    """Return the scope of a request from this client with these X-Forwarded-For headers."""
    headers = [(b"x-forwarded-for", text.encode("latin-1", "replace")) for text in forwarded]
    return {"type": "http", "client": client, "headers": headers}


@pytest.mark.parametrize(
    ("request_", "proxies", "peer"),
    [
        (scope("1.2.3.4"), 0, "10.0.0.1"),
        (scope("1.2.3.4"), 1, "1.2.3.4"),
        (scope("6.6.6.6, 1.2.3.4"), 1, "1.2.3.4"),
        (scope("6.6.6.6", "7.7.7.7,1.2.3.4:80"), 1, "1.2.3.4"),
        (scope("6.6.6.6,1.2.3.4, 5.6.7.8"), 2, "1.2.3.4"),
        (scope("1.2.3.4"), 2, "10.0.0.1"),
        (scope(), 1, "10.0.0.1"),
        (scope("unknown"), 1, "10.0.0.1"),
        (scope("[2001:db8:1:2:3::4]:443"), 1, "2001:db8:1:2::/64"),
        (scope("2001:db8:1:2:ffff::9"), 1, "2001:db8:1:2::/64"),
        (scope("::ffff:1.2.3.4"), 1, "1.2.3.4"),
        (scope(client=("fe80::1%eth0", 1)), 0, "fe80::/64"),
        (scope(client=None), 0, ""),
    ],
)
def test_only_trusted_proxies_determine_the_peer(request_, proxies, peer) -> None:
    """The part of the header that the client wrote itself does not matter."""
    assert get_peer(request_, proxies) == peer


@given(made_up=st.text(max_size=80), proxies=st.integers(0, 3))
def test_forged_header_parts_do_not_change_the_peer(made_up, proxies) -> None:
    """No text that the client puts before its address changes the peer or raises an error."""
    true = ["1.2.3.4", "5.6.7.8", "9.9.9.9"][:proxies]
    expected = "1.2.3.4" if proxies else "10.0.0.1"
    assert get_peer(scope(",".join([made_up, *true])), proxies) == expected
    assert isinstance(get_peer(scope(made_up), proxies), str)


def test_a_dyno_trusts_one_proxy_by_default() -> None:
    """On a dyno one proxy is trusted unless a setting says otherwise."""
    assert Settings().proxy_count == 0
    assert Settings(dyno="web.1").proxy_count == 1
    assert Settings(dyno="web.1", trusted_proxies=0).proxy_count == 0
    assert Settings(trusted_proxies=2).proxy_count == 2


@given(per_minute=st.integers(1, 100), pauses=st.lists(st.floats(0, 30), max_size=60))
def test_lookups_of_failing_peers_are_limited(per_minute, pauses) -> None:
    """Failed keys are looked up at most at the configured rate, and other peers are not limited."""
    clock = Clock()
    wrong = FailedAuthLimiter(per_minute, clock)
    looked_up = 0
    for pause in pauses:
        clock.now += pause
        if not wrong.is_limited("a"):
            looked_up += 1
            wrong.record_failure("a")
    assert looked_up <= per_minute + sum(pauses) * per_minute / 60 + 1e-6
    assert not wrong.is_limited("b")


def test_the_number_of_kept_peers_is_limited() -> None:
    """At most `MAX_PEERS` peers are kept; the least recently failed ones are dropped."""
    wrong = FailedAuthLimiter(1, Clock())
    for number in range(MAX_PEERS + 5):
        wrong.record_failure(str(number))
    assert len(wrong._limiter._buckets) == MAX_PEERS
    assert not wrong.is_limited("0")
    assert wrong.is_limited(str(MAX_PEERS))
