"""What services wait for that ask over HTTP: one web process, with worker processes behind it."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from bench import lists
from bench.contenders import Contender, warm_up
from bench.lists import sql
from bench.measuring import EVIDENCE, completed
from bench.others import Others
from bench.templates import LIST, Copy, checkpoint
from bench.waits import summed_up
from bench.watching import Watch
from bench.web_process import Web, running_web
from producers.accounts import create_account
from producers.keys import Scope, create_key

CONNECTIONS = 16
RATE = 100.0
"""Opt-outs a second, where they come by the clock."""

_RECIPIENTS = "recipients"
_WARM = 500
"""Opt-outs before any is measured: connections are made, and statements prepared."""

_FORMS = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
_OPT_IN: dict[str, Any] = {"action": "opt_in", "evidence": EVIDENCE}
_PLANS: dict[str, dict[str, Any]] = {
    "opt_in": _OPT_IN | {"fields": ["email1", "email2"]},
    "opt_out": {"action": "opt_out", "fields": ["email1"]},
}


class Amounts(NamedTuple):
    """How much is asked: opt-outs of a pass, seconds of those by the clock, listed ids of a job,
    and how often each is measured.
    """

    opt_outs: int
    seconds: float
    listed: int
    times: int

    @property
    def recipients(self) -> int:
        """Each opts out once."""
        return _WARM + self.opt_outs * self.times + round(self.seconds * RATE)


async def over_http(copy: Copy, fleet: Contender, folder: Path, amounts: Amounts) -> dict[str, Any]:
    """All that is measured over HTTP, on the copy's list and on an account of recipients beside it.

    Each recipient is a person of two addresses, so that each opt-out spreads to one other.
    """
    await lists.fill(copy.pool, await create_account(copy.pool, _RECIPIENTS), amounts.recipients)
    await copy.pool.execute("vacuum (analyze)")
    await checkpoint(copy.pool)
    tokens = {account: await _token(copy.pool, account) for account in (LIST, _RECIPIENTS)}
    async with fleet.on(copy, folder) as running:
        await warm_up(running, copy)
        with running_web(copy.settings, folder / "web.log") as web, Watch([web.process]) as watch:
            others = await Others.before(copy)
            asking = _Asking(copy, web, tokens, amounts)
            figures = await asking.opt_outs() | {
                "plans": await asking.plans(),
                "submitting": await asking.submitting(),
                "streams": await asking.streams(),
                "others_percent": others.percent(),
            }
    return figures | {"web_rss_mb": watch.peaks[web.process].as_mb()["rss_mb"]}


async def _token(pool: asyncpg.Pool, account: str) -> str:
    key = await create_key(pool, account=account, name="the benchmark", scopes=list(Scope))
    return key.token


class _Asking(NamedTuple):
    copy: Copy
    web: Web
    tokens: dict[str, str]
    amounts: Amounts

    async def opt_outs(self) -> dict[str, Any]:
        """As many as can be, in several passes, and then some by the clock."""
        amounts = self.amounts
        addresses = await self._addresses()
        await self._opt_out(addresses, _WARM)
        # As autovacuum does it in its time: sessions that have seen next to no jobs would read all.
        await self.copy.pool.execute("analyze jobs")
        passes = [await self._opt_out(addresses, amounts.opt_outs) for _ in range(amounts.times)]
        by_clock = await self._ask(
            "opt_outs_by_clock",
            _RECIPIENTS,
            addresses=addresses,
            rate=RATE,
            connections=CONNECTIONS,
        )
        return {
            "as_fast": {"connections": CONNECTIONS, "passes": passes},
            "by_clock": summed_up(by_clock["ms"])
            | {
                "rate": RATE,
                "deferred": 0,
                "ms_sent_late_worst": by_clock["ms_sent_late_worst"],
            },
        }

    async def _addresses(self) -> list[str]:
        async with self.copy.pool.acquire() as connection:
            rows = sql.first_addresses(
                connection, account=_RECIPIENTS, most=self.amounts.recipients
            )
            return [row["address"] async for row in rows]

    async def _opt_out(self, addresses: list[str], number: int) -> dict[str, Any]:
        """So many of the addresses, which are taken from the list by that."""
        chosen = [addresses.pop() for _ in range(number)]
        said = await self._ask(
            "opt_outs_as_fast", _RECIPIENTS, addresses=chosen, connections=CONNECTIONS
        )
        return {
            "opt_outs": number,
            "per_second": round(number / said["seconds"], 1),
            "web_ms": round(said["web_seconds"] * 1000 / number, 3),
            "client_ms": round(said["client_seconds"] * 1000 / number, 3),
        } | {name: figure for name, figure in summed_up(said["ms"]).items() if name != "ms"}

    async def plans(self) -> dict[str, Any]:
        """Plans over the whole list, until the answer has what they would do."""
        seconds: dict[str, Any] = {"contacts": self.copy.template.contacts}
        for _ in range(self.amounts.times):
            for action, job in _PLANS.items():
                said = await self._post(job | {"selection": {"all": True}, "mode": "plan"})
                if said["answer"]["state"] != "planned":
                    raise RuntimeError(f"The plan was not counted: {said['answer']}")
                seconds.setdefault(action, []).append(round(said["seconds"], 3))
        return seconds

    async def submitting(self) -> dict[str, Any]:
        """Jobs that list ids in their body, until each is stored; and then until it is done."""
        template, listed = self.copy.template, min(self.amounts.listed, self.copy.template.contacts)
        ids = list(range(template.first, template.first + listed))
        seconds = []
        for _ in range(self.amounts.times):
            said = await self._post(_OPT_IN | {"selection": {"contacts": ids}})
            seconds.append(round(said["seconds"], 3))
            await completed(self.copy.pool, said["answer"]["id"])
        return {"ids": listed, "bytes": said["bytes"], "seconds": seconds}

    async def streams(self) -> dict[str, Any]:
        """All results of a job over one address of each contact, in each form."""
        said = await self._post(_OPT_IN | {"selection": {"all": True}})
        job_id = said["answer"]["id"]
        await completed(self.copy.pool, job_id)
        rows = self.copy.template.contacts
        runs: dict[str, Any] = {"rows": rows}
        for _ in range(self.amounts.times):
            for form, accept in _FORMS.items():
                said = await self._ask(
                    "stream", LIST, path=f"/v1/jobs/{job_id}/results", accept=accept
                )
                if said["lines"] != rows + (form == "csv"):
                    raise RuntimeError(f"Of {rows} results {said['lines']} lines came.")
                runs.setdefault(form, []).append(
                    {
                        "rows_per_second": round(rows / said["seconds"]),
                        "mb": round(said["bytes"] / 1e6, 1),
                        "web_seconds": said["web_seconds"],
                        "client_seconds": said["client_seconds"],
                    }
                )
        return runs

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._ask("post", LIST, path="/v1/jobs", body=body)

    async def _ask(self, what: str, account: str, **more: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.web.ask, what, token=self.tokens[account], **more)
