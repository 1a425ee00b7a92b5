"""`python -m bench.load`: recipients opt out while large jobs run, and jobs beside other jobs."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from bench import lists, report
from bench.fairness import alike, beside_jobs, small_job
from bench.machine import describe
from bench.measuring import Costs, Stand
from bench.places import Place, fresh_settings, place_to_measure
from bench.terminal import INTERRUPTED, ended_by_sigterm, wide_console
from bench.unsubscribing import Recipients, draw_recipients, sql
from bench.workers_group import running_workers
from db.pool import open_pool
from producers.accounts import create_account
from runtime import logs
from schemas.errors import SluiceError

_ACCOUNTS = 10
_WARM_SECONDS = 1.0
"""How long opt-outs arrive unmeasured at first, while connections are made and get to know their
statements: a service does that once in its life."""
_SMALL = 100
_OTHERS = 3
"""Connections for everything but the opt-outs."""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--contacts", type=int, default=1_000_000, help="size of the large job")
    parser.add_argument("--rate", type=float, default=200, help="opt-outs a second")
    parser.add_argument("--seconds", type=float, default=30, help="how long, idle and beside jobs")
    parser.add_argument("--connections", type=int, default=8, help="of those who opt out")
    parser.add_argument("--seed", type=int, default=7, help="of the choice of recipients")
    parser.add_argument("--keep", action="store_true", help="write a file of results")
    parser.add_argument("--json", action="store_true", help="print the JSON and nothing else")
    options = parser.parse_args(arguments)
    if min(options.rate, options.seconds, options.connections) <= 0:
        parser.error("--rate, --seconds and --connections have to be more than 0")
    wanted = options.rate * (2 * options.seconds + _WARM_SECONDS) + 2 * _SMALL
    if options.contacts < wanted:
        parser.error("--contacts has to be enough for everyone to opt out once, idle and beside")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; gives the exit status: 1 when an opt-out was lost or came too early."""
    options = _options(arguments)
    console = Console(stderr=True)
    try:
        with ended_by_sigterm(), place_to_measure() as place:
            taken = uvloop.run(_measure(place, options, console))
    except KeyboardInterrupt:
        console.print("Interrupted; everything was stopped and removed, and no figures were kept.")
        return INTERRUPTED
    except SluiceError as error:
        console.print(str(error), markup=False, highlight=False)
        return error.exit_code
    if options.keep:
        console.print(f"kept in {report.keep(taken, 'load')}", soft_wrap=True)
    if options.json:
        print(json.dumps(taken, indent=2, ensure_ascii=False))
    else:
        for table in _tables(taken):
            wide_console().print(table)
    wrong = ("lost", "acknowledged_too_early")
    phases = (taken["figures"]["idle"], taken["figures"]["beside"])
    return int(any(phase[name] for phase in phases for name in wrong))


async def _measure(place: Place, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    taken_at = datetime.now(UTC)
    async with fresh_settings(place) as settings:
        logs.configure(settings.model_copy(update={"log_level": "error"}))
        url = settings.database_url
        assert url is not None
        with running_workers(settings, place.folder / "workers.log") as workers:
            async with (
                await open_pool(url, size=_OTHERS) as pool,
                await open_pool(url, size=options.connections) as doors,
            ):
                machine = await describe(pool, place.servers.redis_url)
                stand = Stand(pool, settings, workers, place.embedded)
                account = "large"
                account_id = await create_account(pool, account)
                console.print(f"making a list of {options.contacts:,} contacts")
                await lists.fill(pool, account_id, options.contacts)
                await lists.settle(pool)
                async with pool.acquire() as connection:
                    first = await sql.first_contact(connection, account_id=account_id)
                each = round(options.rate * options.seconds)
                warm = round(options.rate * _WARM_SECONDS)
                drawn = draw_recipients(
                    first, options.contacts, 2 * each + 2 * _SMALL + warm, seed=options.seed
                )
                recipients = Recipients(doors, pool, settings, account, account_id, drawn[:each])
                await recipients._replace(contacts=drawn[-warm:]).opt_out(
                    rate=options.rate, seconds=_WARM_SECONDS
                )
                console.print("opt-outs while nothing else is done")
                figures: dict[str, Any] = {"contacts": options.contacts}
                costs = Costs(stand)
                async with costs.measured():
                    figures["idle"] = await recipients.opt_out(
                        rate=options.rate, seconds=options.seconds
                    )
                figures["idle"] |= _others(costs)
                await lists.settle(pool)
                console.print("opt-outs while jobs over the list run")
                others = recipients._replace(contacts=drawn[each : 2 * each])
                costs = Costs(stand)
                async with costs.measured():
                    figures["beside"], figures["jobs_begun"] = await beside_jobs(
                        stand, account, others.opt_out(rate=options.rate, seconds=options.seconds)
                    )
                figures["beside"] |= _others(costs)
                console.print("small jobs while jobs over the list run")
                small = drawn[2 * each : 2 * each + 2 * _SMALL]
                figures["small"], _ = await beside_jobs(
                    stand, account, _small_jobs(stand, account, small)
                )
                console.print(f"a large job in each of {_ACCOUNTS} accounts")
                names = [f"large-{n}" for n in range(_ACCOUNTS)]
                for name in names:
                    other = await create_account(pool, name)
                    await lists.fill(pool, other, max(1, options.contacts // _ACCOUNTS))
                await lists.settle(pool)
                figures["alike"] = await alike(stand, names)
    return {
        "taken_at": taken_at.isoformat(timespec="seconds"),
        "options": vars(options),
        "machine": machine,
        "settings": settings.model_dump(exclude={"database_url", "redis_url", "queue_namespace"}),
        "embedded_servers": place.embedded,
        "figures": figures,
    }


def _others(costs: Costs) -> dict[str, float]:
    return {"others_percent": costs.figures(addresses=1)["others_percent"]}


async def _small_jobs(stand: Stand, account: str, contacts: Sequence[int]) -> dict[str, Any]:
    half = len(contacts) // 2
    opt_in, opt_out = await asyncio.gather(
        small_job(stand, account, "opt_in", contacts[:half]),
        small_job(stand, account, "opt_out", contacts[half:]),
    )
    return {"opt_in": opt_in, "opt_out": opt_out}


def _tables(taken: dict[str, Any]) -> list[Table]:
    figures, options = taken["figures"], taken["options"]
    latency = Table(
        title=f"opt-outs of single recipients at {options['rate']:g} a second for"
        f" {options['seconds']:g} s, {options['connections']} connections",
        title_justify="left",
    )
    latency.add_column("what")
    latency.add_column("idle", justify="right")
    latency.add_column(f"beside jobs of {figures['contacts']:,} contacts", justify="right")
    for name, what, unit in (
        ("opt_outs", "acknowledged", ""),
        ("rate_achieved", "a second", ""),
        ("ms_median", "from arrival to answer, median", " ms"),
        ("ms_p99", "  99th percentile", " ms"),
        ("ms_worst", "  worst", " ms"),
        ("ms_sent_late_worst", "sent after its time, at worst", " ms"),
        ("deferred", "left to the workers", ""),
        ("lost", "lost", ""),
        ("acknowledged_too_early", "acknowledged before it was committed", ""),
        ("looked_at", "  of so many looked at", ""),
        ("others_percent", "processor time that other programs took", " %"),
    ):
        cells = (f"{figures[phase][name]:,}{unit}" for phase in ("idle", "beside"))
        latency.add_row(what, *cells)
    fairness = Table(title="jobs beside other jobs", title_justify="left")
    fairness.add_column("what")
    fairness.add_column("measured", justify="right")
    for action, job in figures["small"].items():
        fairness.add_row(
            f"{action} of {job['contacts']} contacts beside a job of {figures['contacts']:,}",
            f"started after {job['started_s']:.2f} s, done after {job['done_s']:.2f} s",
        )
    ten = figures["alike"]
    fairness.add_row(
        f"{ten['jobs']} accounts, a job of {figures['contacts'] // _ACCOUNTS:,} contacts each",
        f"when one is half done, the last has done {ten['share_least']:.0%} (most:"
        f" {ten['share_most']:.0%}); the last started after {ten['last_started_s']:.2f} s",
    )
    return [latency, fairness]


if __name__ == "__main__":
    sys.exit(main())
