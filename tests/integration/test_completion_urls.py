"""Completion URLs are checked on submission, and lead to public addresses only."""

import asyncio
from ipaddress import ip_address

import httpcore
import pytest

from db import webhook_deliveries as stored
from producers.submit import submit
from schemas.errors import IdempotencyConflict, InvalidRequest
from tests.kit.factories import key_of
from tests.kit.submitting import request_with_webhook
from workers.webhook_client import NotPublicError, PublicBackend

KEY = {"idempotency_key": "k"}


class Connected(Exception):
    """Raised instead of connecting."""


async def test_the_checked_address_is_the_one_connected_to(monkeypatch):
    """A name is resolved once, so a later answer with a private address has no effect."""
    answers = [["10.0.0.7", "93.184.216.34", "::1"], ["127.0.0.1"]]
    resolved, connected = [], []

    async def getaddrinfo(host, port, **_):
        resolved.append(host)
        return [(0, 0, 0, "", (text, port)) for text in answers.pop(0)]

    async def connect_tcp(host, port, **_):
        connected.append((host, port))
        raise Connected

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    backend = PublicBackend(allow_private=False)
    monkeypatch.setattr(backend._backend, "connect_tcp", connect_tcp)
    with pytest.raises(Connected):
        await backend.connect_tcp("rebinding.example", 443)
    assert (resolved, connected) == (["rebinding.example"], [("93.184.216.34", 443)])
    with pytest.raises(NotPublicError):
        await backend.connect_tcp("rebinding.example", 443)
    assert len(connected) == 1


async def test_the_next_address_is_tried_if_one_does_not_answer(monkeypatch):
    """The addresses of a name are tried in turn; the last error is raised."""
    tried = []

    async def getaddrinfo(_host, port, **_):
        return [(0, 0, 0, "", (text, port)) for text in ("2606:4700::1", "93.184.216.34")]

    async def connect_tcp(host, **_):
        tried.append(host)
        raise httpcore.ConnectError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    backend = PublicBackend(allow_private=False)
    monkeypatch.setattr(backend._backend, "connect_tcp", connect_tcp)
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("two.example", 443)
    assert tried == ["2606:4700::1", "93.184.216.34"]
    assert not any(ip_address(text).is_private for text in tried)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "//example.com/",
        "example.com",
        "https://user:secret@example.com/",
        "https://user@example.com/",
        "https://example.com/#part",
        "https://example.com/" + "x" * 2000,
        "https://example.com/" + "ü" * 700,
        "http://example.com\\@127.0.0.1/",
        "https://example.com\\x",
        "https://example.com/a\r\nX: y",
        "https://exam\tple.com/",
        " https://example.com/",
        "https://example.com/a b",
        "",
    ],
)
def test_an_invalid_url_is_rejected(url):
    """The error names the field, and nothing is stored."""
    with pytest.raises(InvalidRequest, match="`completion_url`: "):
        request_with_webhook(url)


async def test_an_idempotency_key_covers_the_url(pool, settings):
    """The same URL is the same request; no URL or another URL is a different request."""
    first = await submit(pool, settings, request_with_webhook("https://a.example/x", **KEY))
    again = await submit(pool, settings, request_with_webhook("https://A.example/x", **KEY))
    assert (again.job_id, again.created) == (first.job_id, False)
    for url in ("https://a.example/y", None):
        with pytest.raises(IdempotencyConflict):
            await submit(pool, settings, request_with_webhook(url, **KEY))


async def test_a_request_without_a_url_keeps_its_hash(pool, settings):
    """Idempotency keys of earlier requests stay valid."""
    plain = (await submit(pool, settings, request_with_webhook(None))).job_id
    assert await pool.fetchval("select request_hash from jobs where id = $1", plain) == (
        "230e15afa24a044a5a4d69580c86bc9d95a70a5f4cf871e8dd7d5a4d9e63e6b3"
    )
    async with pool.acquire() as connection:
        assert await stored.get_delivery(connection, await key_of(pool, plain)) is None
