"""Posting to a URL from a client: only to the public internet, and within limits.

The host's name is resolved here, and the connection goes to the address that was checked. So a name
that changes its address (DNS rebinding) gains nothing. Redirects are not followed. Of the response
only the head is read, up to a limit, since interim responses (1xx) could come without end.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from ipaddress import ip_address
from ssl import SSLContext
from typing import Any

import httpcore

from runtime.public_addresses import WEB_PORTS, is_public

CONNECT_TIMEOUT_SECONDS = 5.0
TOTAL_TIMEOUT_SECONDS = 10.0

MAX_ADDRESSES = 4
"""How many of a host's addresses are tried, in the order of the resolver."""

MAX_HEAD_BYTES = 32 * 1024
"""How much of a response is read, with interim responses and the beginning of its body."""

_PORTS = frozenset(port for ports in WEB_PORTS.values() for port in ports)

# Its debug lines contain the URL and the signature.
logging.getLogger("httpcore").setLevel(logging.WARNING)


class NotPublicError(httpcore.ConnectError):
    """The host has no address in the public internet, or does not exist.

    One error for both: otherwise a client could find out names of the internal network.
    """


class ResponseTooLargeError(httpcore.RemoteProtocolError):
    """The response's head is larger than `MAX_HEAD_BYTES`."""


class LimitedStream(httpcore.AsyncNetworkStream):
    """A connection from which at most `MAX_HEAD_BYTES` are read."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MAX_HEAD_BYTES

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> bytes:
        """Read from the wrapped stream; raise ResponseTooLargeError when the limit is reached."""
        if not self._left:
            raise ResponseTooLargeError
        data = await self._stream.read(min(max_bytes, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> None:
        """Pass the bytes to the wrapped stream."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the wrapped stream."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> httpcore.AsyncNetworkStream:
        """Start TLS, and limit the head of the response inside it too."""
        return LimitedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what the wrapped stream knows, such as its socket."""
        return self._stream.get_extra_info(info)


class PublicBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, or with `allow_private` to any."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's public addresses that accepts.

        Raises NotPublicError, and httpcore's errors if no connection can be made.
        """
        del timeout
        if not self._allow_private and port not in _PORTS:
            raise NotPublicError
        addresses = await self._addresses(host, port)
        if not addresses:
            raise NotPublicError
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                stream = await self._connect(addresses, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        return LimitedStream(stream)

    async def _connect(
        self,
        addresses: list[str],
        port: int,
        local_address: str | None,
        options: Iterable[Any] | None,
    ) -> httpcore.AsyncNetworkStream:
        connect = partial(
            self._backend.connect_tcp,
            port=port,
            local_address=local_address,
            socket_options=options,
        )
        *others, last = addresses
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await connect(address, timeout=CONNECT_TIMEOUT_SECONDS / len(addresses))
        # The last one may take all the remaining time.
        return await connect(last)

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Return the host's public addresses; none if the name does not resolve in time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        texts = dict.fromkeys(str(address[0]) for *_, address in found)
        allowed = [text for text in texts if self._allow_private or is_public(ip_address(text))]
        return allowed[:MAX_ADDRESSES]


async def post_webhook(
    url: str, *, headers: Mapping[str, str], body: bytes, allow_private: bool
) -> int:
    """Send a POST and return the status of the response.

    Raises TimeoutError and httpcore's errors, among them NotPublicError.
    """
    async with (
        asyncio.timeout(TOTAL_TIMEOUT_SECONDS),
        httpcore.AsyncConnectionPool(
            ssl_context=_ssl_context(), network_backend=PublicBackend(allow_private=allow_private)
        ) as client,
        client.stream("POST", url, headers=list(headers.items()), content=body) as response,
    ):
        return int(response.status)


@cache
def _ssl_context() -> SSLContext:
    """Return a context with the system's certificates; cached, since loading them is slow."""
    return httpcore.default_ssl_context()
