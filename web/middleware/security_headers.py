"""Headers that every response has."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""No sniffing of types, and no caching: a response may contain addresses."""


class SecurityHeadersMiddleware:
    """ASGI middleware. Adds the `SECURITY_HEADERS` that a response does not have yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers when the response begins."""

        async def send_wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                message["headers"] = own + [
                    each for each in SECURITY_HEADERS if each[0] not in names
                ]
            await send(message)

        await self._app(scope, receive, send_wrapped)
