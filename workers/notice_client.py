"""Posting to a URL that a stranger has named: only to the public internet, and not for long.

The host's name is looked up here, and the connection is made to the very address that was looked
at: a name that leads elsewhere the next time it is asked (DNS rebinding) gains nothing. Redirects
are not followed, and of the answer only its head is read.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping
from functools import cache
from ipaddress import ip_address
from ssl import SSLContext
from typing import Any

import httpcore

from runtime.public_addresses import is_public

CONNECT_SECONDS = 5.0
ALL_SECONDS = 10.0

MOST_ADDRESSES = 4
"""How many of a name's addresses are tried, in the order of the resolver."""

# What it logs for those who hunt its faults has the URL in it, and the signature.
logging.getLogger("httpcore").setLevel(logging.WARNING)


class NotPublicError(httpcore.ConnectError):
    """The host is no address of the public internet, or its name leads to none."""


class PublicBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses alone; with `private` to any."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the host's addresses that takes one.

        Raises NotPublicError, and what httpcore raises where there is no connection to be had.
        """
        del timeout
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._connect(host, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error

    async def _connect(
        self, host: str, port: int, local_address: str | None, options: Iterable[Any] | None
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._addresses(host, port)
        for tries_left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                return await self._backend.connect_tcp(
                    address,
                    port,
                    # The last one has all that is left.
                    timeout=None if tries_left == 1 else CONNECT_SECONDS / len(addresses),
                    local_address=local_address,
                    socket_options=options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if tries_left == 1:
                    raise
        raise NotPublicError

    async def _addresses(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError from error
        # An address of the network is text, then; of an unknown family it would be something else.
        texts = dict.fromkeys(str(place[0]) for *_, place in found)
        allowed = [text for text in texts if self._private or is_public(ip_address(text))]
        return allowed[:MOST_ADDRESSES]


async def post(url: str, *, headers: Mapping[str, str], body: bytes, private: bool) -> int:
    """The status of the answer to a POST.

    Raises TimeoutError, and httpcore's errors, NotPublicError among them.
    """
    async with (
        asyncio.timeout(ALL_SECONDS),
        httpcore.AsyncConnectionPool(
            ssl_context=_ssl_context(), network_backend=PublicBackend(private=private)
        ) as client,
        client.stream("POST", url, headers=list(headers.items()), content=body) as response,
    ):
        return int(response.status)


@cache
def _ssl_context() -> SSLContext:
    """Verifies, by the usual authorities. To read those takes a while, and so it is done once."""
    return httpcore.default_ssl_context()
