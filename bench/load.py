"""`python -m bench.load`: recipients opt out while large jobs run, and jobs beside other jobs."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import uvloop
from rich.console import Console

from bench import load_report, results_files
from bench.load_course import LoadCourse, contacts_needed
from bench.machine import describe
from bench.measuring import Stand
from bench.places import Place, fresh_settings, place_to_measure
from bench.terminal import wide_console
from bench.workers_group import running_workers
from chaos.interruption import INTERRUPTED, ended_by_sigterm
from db.pool import open_pool
from runtime import logs
from schemas.errors import SluiceError

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
    if min(options.rate * options.seconds, options.connections) < 1:
        parser.error("--rate, --seconds and --connections have to come to one opt-out or more")
    if options.contacts < (needed := contacts_needed(rate=options.rate, seconds=options.seconds)):
        parser.error(f"--contacts has to be {needed:,} or more, so that nobody opts out twice")
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
        console.print(f"kept in {results_files.keep(taken, 'load')}", soft_wrap=True)
    if options.json:
        print(json.dumps(taken, indent=2, ensure_ascii=False))
    else:
        for table in (load_report.latency(taken), load_report.fairness(taken)):
            wide_console().print(table)
    return 1 if load_report.violations(taken) else 0


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
                figures = await LoadCourse(
                    stand=Stand(pool, settings, workers, place.embedded),
                    doors=doors,
                    say=lambda text: console.print(text, highlight=False),
                    contacts=options.contacts,
                    rate=options.rate,
                    seconds=options.seconds,
                    seed=options.seed,
                ).run()
    return {
        "taken_at": taken_at.isoformat(timespec="seconds"),
        "options": vars(options),
        "machine": machine,
        "settings": settings.model_dump(exclude={"database_url", "redis_url", "queue_namespace"}),
        "embedded_servers": place.embedded,
        "figures": figures,
    }


if __name__ == "__main__":
    sys.exit(main())
