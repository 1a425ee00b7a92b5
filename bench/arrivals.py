"""Requests at an even rate, whether or not earlier ones have been answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def open_loop(
    send: Callable[[int], Awaitable[T]],
    *,
    rate: float,
    seconds: float,
    is_over: Callable[[], bool] = lambda: False,
) -> list[tuple[T, float]]:
    """Send requests 0, 1, 2, ... at an even rate, for this time or until it is over.

    Return each answer with its milliseconds. They count from the time at which the request was due:
    a slow answer that delays later requests is in their figures too.
    """
    tasks: list[asyncio.Task[tuple[T, float]]] = []
    began = time.perf_counter()

    async def timed(number: int, due: float) -> tuple[T, float]:
        answer = await send(number)
        return answer, round((time.perf_counter() - due) * 1000, 1)

    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            due = began + number / rate
            # A sleep of zero seconds lets the other tasks go on.
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if is_over():
                break
            tasks.append(group.create_task(timed(number, due)))
    return [task.result() for task in tasks]
