"""Measure how long the web process takes to recover from a fault."""

import asyncio
import time

import httpx

_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 3.0
_GIVE_UP_SECONDS = 120.0


class WebRecoveryWatcher:
    """Polls the readiness of the web process, as a platform does before it routes requests."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/readyz"
        self._ends: list[float] = []

    async def after(self, ended: float) -> float | None:
        """Return the seconds until it was ready, or None if it never was.

        They count from the time that this cause `ended`, or from the end of the last other cause
        before it was ready.
        """
        self._ends.append(ended)
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False) as client:
            while not await self._is_ready(client):
                if time.monotonic() - ended > _GIVE_UP_SECONDS:
                    return None
                await asyncio.sleep(_POLL_SECONDS)
        now = time.monotonic()
        return now - max(end for end in self._ends if end <= now)

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(self._url)).is_success
        except httpx.TransportError:
            return False
