"""Answers that go on for as long as there is something to send."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Send

from db.errors import CONNECTION_ERRORS, TRANSIENT_ERRORS


class StreamAbortedError(Exception):
    """An answer that has begun cannot go on, since Postgres does not answer any more."""


class ClosingStreamingResponse(StreamingResponse):
    """One that closes what it sends when the caller leaves, so that no connection stays taken.

    Raises StreamAbortedError where Postgres goes away before its end.
    """

    body_iterator: AsyncGenerator[str, None]

    async def stream_response(self, send: Send) -> None:
        """Send the response; if its source fails, cut it off so that it is visibly incomplete."""
        async with aclosing(_translate_errors(self.body_iterator)) as self.body_iterator:
            await super().stream_response(send)


async def _translate_errors(parts: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    async with aclosing(parts):
        try:
            async for part in parts:
                yield part
        except (*TRANSIENT_ERRORS, *CONNECTION_ERRORS) as error:
            raise StreamAbortedError from error
