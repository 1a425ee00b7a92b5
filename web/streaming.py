"""Streamed responses."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Send

from web.problems import DATABASE_ERRORS


class StreamAbortedError(Exception):
    """A response that has begun cannot continue, because Postgres does not answer."""


class ClosingStreamingResponse(StreamingResponse):
    """A response that closes its iterator when the client leaves, to free the connection.

    Raise StreamAbortedError if Postgres stops answering before its end.
    """

    body_iterator: AsyncGenerator[str, None]

    async def stream_response(self, send: Send) -> None:
        """Send the response, and close the iterator."""
        async with aclosing(_translate_errors(self.body_iterator)) as self.body_iterator:
            await super().stream_response(send)


async def _translate_errors(parts: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    async with aclosing(parts):
        try:
            async for part in parts:
                yield part
        except DATABASE_ERRORS as error:
            raise StreamAbortedError from error
