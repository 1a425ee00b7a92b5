"""Requests that arrive by the clock, whether or not the earlier ones have been answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Answered(NamedTuple):
    """How long after its time of arrival a request was answered, and when it was sent, in seconds.

    Both count from when the clock wanted the request, not from when the sender came to it: a slow
    answer that keeps later requests waiting is in the figures of those too.
    """

    answered: float
    sent: float


async def open_loop(
    send: Callable[[int, Callable[[], Answered]], Awaitable[T]],
    *,
    rate: float,
    seconds: float,
    over: Callable[[], bool] = lambda: False,
) -> tuple[list[T], float]:
    """Send requests 0, 1, 2, ... at an even rate, for so long or until it is over; gives what came
    of each when the last one is answered, and the time that took.

    `send` gets the request's number and a stopwatch to be read when the answer is there.
    """
    tasks: list[asyncio.Task[T]] = []
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            due = began + number / rate
            wait = due - time.perf_counter()
            # Sleeping for nothing still lets the others go on.
            await asyncio.sleep(max(0.0, wait))
            if over():
                break
            sent = time.perf_counter() - due

            def stopwatch(due: float = due, sent: float = sent) -> Answered:
                return Answered(time.perf_counter() - due, sent)

            tasks.append(group.create_task(_run(send(number, stopwatch))))
    return [task.result() for task in tasks], time.perf_counter() - began


async def _run(sending: Awaitable[T]) -> T:
    return await sending
