"""What every answer says of itself."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""No answer is to be taken for another type than it names, or kept: it may have addresses in it."""


class SecurityHeadersMiddleware:
    """ASGI middleware. Adds those of `SECURITY_HEADERS` that an answer does not have already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to each response that has not set them itself."""

        async def send_wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                message["headers"] = own + [
                    each for each in SECURITY_HEADERS if each[0] not in names
                ]
            await send(message)

        await self._app(scope, receive, send_wrapped)
