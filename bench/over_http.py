"""Response times over HTTP: one web process, with worker processes behind it."""

import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from pydantic import SecretStr

from bench import lists
from bench.contenders import SLUICE, warm_up
from bench.effects import sql
from bench.http_client import OptOutClient, RequestFailed
from bench.jobs import wait_for_completion
from bench.rounds import peak_memory_mb
from bench.samples import Samples
from bench.session import Environment
from bench.templates import LIST, Copy, checkpoint
from producers.accounts import create_account
from producers.keys import Scope, create_key
from tests.kit.submitting import EVIDENCE
from tests.kit.web_process import WebGroup

MAX_RATE, CLOCK_SHARE = 100.0, 0.15
"""Opt-outs at an even rate use this share of the measured rate, and at most this rate."""

_RECIPIENTS = "recipients"
_WARM = 500
"""The number of unmeasured opt-outs that open connections and prepare statements."""

_SIGNING_KEYS = SecretStr("for-measurements-and-for-nothing-else")
_LIMITS = {"REQUESTS_PER_SECOND": "1000000", "LOG_FORMAT": "json"}
"""The rate limit of a key is not part of the measurement."""

_FORMS = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
_ALL_IN: dict[str, Any] = {"action": "opt_in", "evidence": EVIDENCE, "selection": {"all": True}}
_PLANS: dict[str, dict[str, Any]] = {
    "opt_in": _ALL_IN | {"fields": ["email1", "email2"], "mode": "plan"},
    "opt_out": {"action": "opt_out", "selection": {"all": True}, "mode": "plan"},
}


class _BareRoute(WebGroup):
    module = "bench.bare_route"


class _Web(NamedTuple):
    process_id: int
    client: httpx.Client
    opt_outs: dict[str, OptOutClient]


async def measure_http(environment: Environment) -> None:
    """Measure on the large list, and on an account of recipients in the same database.

    Each recipient is a contact with two addresses, so each opt-out is propagated to one other.
    """
    environment.log("over HTTP: single opt-outs, plans, results")
    samples, sizes = environment.samples, environment.sizes
    async with environment.copy("large") as copy:
        account_id = await create_account(copy.pool, _RECIPIENTS)
        # Each recipient opts out once, by one of two routes.
        recipients = 2 * (
            _WARM + sizes.http_opt_outs * sizes.passes + round(sizes.seconds * MAX_RATE)
        )
        await lists.fill(copy.pool, account_id, recipients)
        await copy.pool.execute("vacuum (analyze)")
        await checkpoint(copy.pool)
        async with (
            SLUICE.start(copy, environment.folder) as running,
            _running_web(copy, environment.folder, account_id) as web,
        ):
            await warm_up(running, copy)
            await _measure_opt_outs(copy, account_id, web, environment)
            for _ in range(sizes.passes):
                _measure_plans(web.client, samples)
            await _measure_streams(copy, web.client, samples, sizes.passes)
            samples.add("memory of a process, MB/web process", peak_memory_mb(web.process_id))


@asynccontextmanager
async def _running_web(copy: Copy, folder: Path, account_id: int) -> AsyncIterator[_Web]:
    settings = copy.settings.model_copy(update={"signing_keys": _SIGNING_KEYS})
    key, recipients_key = [
        await create_key(copy.pool, account=account, name="bench", scopes=list(Scope))
        for account in (LIST, _RECIPIENTS)
    ]
    with (
        WebGroup(settings, folder / "web.log", **_LIMITS) as web,
        _BareRoute(settings, folder / "bare.log", ACCOUNT_ID=str(account_id)) as bare,
        web.client(headers={"Authorization": f"Bearer {key.secret}"}) as client,
    ):
        opt_outs = {
            "web process": OptOutClient(web.serving().port, recipients_key.secret),
            "bare route": OptOutClient(bare.serving().port, ""),
        }
        yield _Web(web.process.pid, client, opt_outs)


async def _measure_opt_outs(
    copy: Copy, account_id: int, web: _Web, environment: Environment
) -> None:
    """Opt out as fast as possible in several passes, and then at an even rate.

    The route and the bare route alternate.
    """
    samples, sizes = environment.samples, environment.sizes
    async with copy.pool.acquire() as connection:
        rows = lists.sql.first_addresses(connection, account_id=account_id)
        addresses = [row["address"] async for row in rows]

    def take(number: int) -> list[str]:
        return [addresses.pop() for _ in range(number)]

    for client in web.opt_outs.values():
        await client.per_second(take(_WARM))
    # Autovacuum does it later. Until then, sessions plan with statistics of an almost empty jobs
    # table.
    await copy.pool.execute("analyze jobs")
    for _ in range(sizes.passes):
        for name, client in web.opt_outs.items():
            rate = await client.per_second(take(sizes.http_opt_outs))
            samples.add(f"a second over HTTP: opt-outs/{name}", rate)
    measured = samples["a second over HTTP: opt-outs/web process"]
    rate = min(MAX_RATE, CLOCK_SHARE * statistics.median(measured))
    for name, client in web.opt_outs.items():
        waits = await client.by_clock(take(round(sizes.seconds * rate)), rate)
        samples.add_waits(f"over HTTP/{name}", waits)


def _post(client: httpx.Client, job: dict[str, Any]) -> Any:
    return client.post("/v1/jobs", json=job).raise_for_status().json()


def _measure_plans(client: httpx.Client, samples: Samples) -> None:
    """Request plans over the whole list, until the answer contains the forecast."""
    for action, job in _PLANS.items():
        began = time.perf_counter()
        answer = _post(client, job)
        samples.add(f"plan over HTTP: seconds/{action}", round(time.perf_counter() - began, 3))
        if answer["state"] != "planned":
            raise RequestFailed(f"The plan was not counted: {answer}")


async def _measure_streams(copy: Copy, client: httpx.Client, samples: Samples, passes: int) -> None:
    """Read all results of a job over one address of each contact, in each format and by COPY."""
    job_id = _post(client, _ALL_IN)["id"]
    await wait_for_completion(copy.pool, job_id)
    rows = copy.template.contacts
    for _ in range(passes):
        seconds = await _copy_seconds(copy, job_id)
        samples.add("a second over HTTP: streamed rows/COPY ... TO STDOUT", round(rows / seconds))
        for form, media_type in _FORMS.items():
            lines, seconds = _stream(client, f"/v1/jobs/{job_id}/results", media_type)
            if lines != rows + (form == "csv"):
                raise RequestFailed(f"The stream has {lines} lines for {rows} results.")
            samples.add(f"a second over HTTP: streamed rows/{form}", round(rows / seconds))


def _stream(client: httpx.Client, path: str, media_type: str) -> tuple[int, float]:
    """Read a list to its end. Return its lines and the seconds."""
    began = time.perf_counter()
    with client.stream("GET", path, headers={"Accept": media_type}) as answer:
        answer.raise_for_status()
        lines = sum(part.count(b"\n") for part in answer.iter_raw())
    return lines, time.perf_counter() - began


async def _copy_seconds(copy: Copy, job_id: int) -> float:
    """Return the seconds that `COPY ... TO STDOUT` takes for the same rows."""
    query, arguments = sql.result_rows.sql.rstrip("; \n"), (copy.template.account_id, job_id)

    async def drop(_data: bytes) -> None:
        return

    async with copy.pool.acquire() as connection:
        began = time.perf_counter()
        await connection.copy_from_query(query, *arguments, output=drop, format="csv")
        return time.perf_counter() - began
