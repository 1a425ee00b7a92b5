"""Answers that go on for as long as there is something to send."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Send


class Stream(StreamingResponse):
    """One that closes what it sends when the caller leaves, so that no connection stays taken."""

    body_iterator: AsyncGenerator[str, None]

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.body_iterator):
            await super().stream_response(send)
