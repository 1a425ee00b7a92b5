"""Answers that go on for as long as there is something to send."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Send

from db.errors import NOT_THE_WORKS_FAULT, UNREACHABLE


class BrokenOffError(Exception):
    """An answer that has begun cannot go on, since Postgres does not answer any more."""


class Stream(StreamingResponse):
    """One that closes what it sends when the caller leaves, so that no connection stays taken.

    Raises BrokenOffError where Postgres goes away before its end.
    """

    body_iterator: AsyncGenerator[str, None]

    async def stream_response(self, send: Send) -> None:
        async with aclosing(_unless_it_breaks_off(self.body_iterator)) as self.body_iterator:
            await super().stream_response(send)


async def _unless_it_breaks_off(parts: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    async with aclosing(parts):
        try:
            async for part in parts:
                yield part
        except (*NOT_THE_WORKS_FAULT, *UNREACHABLE) as error:
            raise BrokenOffError from error
