"""`python -m bench.web_client PORT`: asks a web process, for whoever measures it.

A process apart, so that what asking costs is not taken for what answering costs. Each line of
standard input is a request to measure something, and each line of standard output what came of it;
an answer that is no success ends the process.
"""

import asyncio
import http.client
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import uvloop

from bench.arrivals import Answered, open_loop
from bench.web_connection import Answer, WebConnection

_PART_BYTES = 1 << 18


class Asker(NamedTuple):
    """Asks the web process at a port of this machine, with a key."""

    port: int
    token: str

    def opt_outs_as_fast(self, addresses: Sequence[str], connections: int) -> dict[str, Any]:
        """Opt the addresses out over so many connections, each of which asks again as soon as it
        is answered.
        """
        return uvloop.run(self._as_fast(iter(addresses), connections))

    async def _as_fast(self, addresses: Iterator[str], connections: int) -> dict[str, Any]:
        waits: list[float] = []

        async def go_on() -> None:
            async with WebConnection(self.port, self.token) as connection:
                for address in addresses:
                    began = time.perf_counter()
                    _require_spread(await connection.post(*_opt_out(address)))
                    waits.append(time.perf_counter() - began)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(go_on())
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "ms": [round(wait * 1000, 1) for wait in waits]}

    def opt_outs_by_clock(
        self, addresses: Sequence[str], rate: float, connections: int
    ) -> dict[str, Any]:
        """Opt the addresses out at an even rate; waits count from when each was to be sent."""
        return uvloop.run(self._by_clock(addresses, rate, connections))

    async def _by_clock(
        self, addresses: Sequence[str], rate: float, connections: int
    ) -> dict[str, Any]:
        free: asyncio.Queue[WebConnection] = asyncio.Queue()

        async def send(number: int, stopwatch: Callable[[], Answered]) -> Answered:
            connection = await free.get()
            _require_spread(await connection.post(*_opt_out(addresses[number])))
            free.put_nowait(connection)
            return stopwatch()

        for _ in range(connections):
            free.put_nowait(await WebConnection(self.port, self.token).__aenter__())
        made, _ = await open_loop(send, rate=rate, seconds=len(addresses) / rate)
        return {
            "ms": [round(time.answered * 1000, 1) for time in made],
            "ms_sent_late_worst": round(max(time.sent for time in made) * 1000, 1),
        }

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post a body; how long it took until the answer was there."""
        content = json.dumps(body).encode()
        headers = self._authorised({"Content-Type": "application/json"})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.connect()
        began = time.perf_counter()
        connection.request("POST", path, content, headers)
        answer = connection.getresponse()
        read = answer.read()
        seconds = time.perf_counter() - began
        _require_success(Answer(answer.status, read))
        return {"seconds": seconds, "bytes": len(content), "answer": json.loads(read)}

    def stream(self, path: str, accept: str) -> dict[str, Any]:
        """Read a file to its end; how many lines it has, and how long that took."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.connect()
        began = time.perf_counter()
        connection.request("GET", path, headers=self._authorised({"Accept": accept}))
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            _require_success(Answer(answer.status, answer.read()))
        lines = size = 0
        while part := answer.read1(_PART_BYTES):
            lines += part.count(b"\n")
            size += len(part)
        return {"seconds": time.perf_counter() - began, "lines": lines, "bytes": size}

    def _authorised(self, headers: dict[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **headers}


def _opt_out(address: str) -> tuple[str, bytes]:
    body = {"address": address, "kind": "manual", "source": "benchmark", "event_id": address}
    return "/v1/opt-outs", json.dumps(body).encode()


def _require_spread(answer: Answer) -> None:
    """Each opt-out is applied when it is answered, and has reached the person's other address."""
    _require_success(answer)
    said = json.loads(answer.body)
    if not (answer.status == http.client.OK and said["applied"] and said["propagated"] == 1):
        sys.exit(f"It was not applied, or did not spread: {answer.status} {said}")


def _require_success(answer: Answer) -> None:
    if not http.client.OK <= answer.status < http.client.MULTIPLE_CHOICES:
        sys.exit(f"{answer.status}: {answer.body.decode(errors='replace')}")


def main(port: str) -> int:
    """Answer until nothing is asked any more; gives the exit status."""
    for line in sys.stdin:
        asked = json.loads(line)
        asker = Asker(int(port), asked.pop("token"))
        before = _processor_seconds()
        said = getattr(asker, asked.pop("what"))(**asked)
        said["client_seconds"] = round(_processor_seconds() - before, 3)
        print(json.dumps(said), flush=True)
    return 0


def _processor_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
