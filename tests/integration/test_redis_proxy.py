"""The proxy in front of Redis forwards, drops replies and recovers."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis

from runtime.devservers.embedded import ServerUrls
from runtime.settings import Settings
from tests.kit.redis_proxy import RedisProxy


@pytest.fixture
def proxy(servers: ServerUrls) -> Iterator[RedisProxy]:
    """Run the proxy in front of the test run's Redis; skip if it has no socket."""
    url = urlsplit(servers.redis_url)
    if url.scheme != "unix":
        pytest.skip("REDIS_URL is set to a server without a socket in the file system")
    with RedisProxy(Path(unquote(url.path))) as proxy:
        yield proxy


def client_of(proxy: RedisProxy) -> redis.Redis:
    """Make a client that goes through the proxy and never retries."""
    return redis.Redis.from_url(proxy.url, socket_timeout=0.5, retry=None)


def test_requests_and_replies_pass(proxy: RedisProxy, settings: Settings):
    """Without a fault the proxy behaves like the server, even for large values."""
    key, value = f"{settings.queue_namespace}:large", b"x" * 1_000_000
    with client_of(proxy) as client:
        client.set(key, value)
        assert client.get(key) == value


def test_a_stall_loses_the_replies_and_not_the_requests(proxy: RedisProxy, settings: Settings):
    """Redis executes a request sent during a stall. Its client gets no reply, and its connection
    ends.
    """
    key = f"{settings.queue_namespace}:counter"
    with client_of(proxy) as client:
        client.incr(key)
        proxy.stall()
        with pytest.raises(redis.TimeoutError):
            client.incr(key)
        proxy.unstall()
        assert int(client.get(key)) == 2


def test_a_connection_that_was_stalled_is_cut(proxy: RedisProxy):
    """A client that waits for a lost reply gets an error when the stall ends."""
    with redis.Redis.from_url(proxy.url, socket_timeout=30, retry=None) as client:
        connection = client.connection_pool.get_connection()
        proxy.stall()
        connection.send_command("PING")
        proxy.unstall()
        with pytest.raises(redis.ConnectionError):
            connection.read_response()


def test_a_server_that_is_down_is_reported_immediately(tmp_path: Path):
    """If no server listens behind the proxy, it closes the connection."""
    with (
        RedisProxy(tmp_path / "nobody.sock") as proxy,
        client_of(proxy) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()
