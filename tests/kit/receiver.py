"""The receiver of the storm, with answers that a test lists."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.kit.http_receiver import HANG, ReceivedRequest, Receiver, answer, running_receiver

__all__ = ["HANG", "ReceivedRequest", "Receiver", "answer", "receiver"]


@asynccontextmanager
async def receiver(*answers: bytes) -> AsyncIterator[Receiver]:
    """A receiver that answers each request with the next one, and at last with the last again."""
    left = list(answers)

    def reply(_posted: ReceivedRequest) -> bytes:
        return left.pop(0) if len(left) > 1 else left[0]

    async with running_receiver(reply) as made:
        yield made
