"""`python -m bench.load`: recipients opt out while large jobs run, and jobs beside other jobs."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from rich.console import Console

from bench import load_report, results_files
from bench.load_course import LoadCourse, contacts_needed
from bench.measuring import Stand
from bench.places import Place, fresh_settings
from bench.sitting import circumstances, measured_or_exit
from bench.terminal import wide_console
from bench.workers_group import running_workers
from db.pool import open_pool
from runtime.settings import Settings

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
    taken = measured_or_exit(
        lambda place: _measure(place, options, console), console, run=uvloop.run
    )
    if options.keep:
        console.print(f"kept in {results_files.keep(taken, 'load')}", soft_wrap=True)
    if options.json:
        print(json.dumps(taken, indent=2, ensure_ascii=False))
    else:
        for table in (load_report.latency(taken), load_report.fairness(taken)):
            wide_console().print(table)
    return 1 if load_report.violations(taken) else 0


async def _measure(place: Place, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    taken = await circumstances(place, Settings())
    async with fresh_settings(place) as settings:
        url = settings.database_url
        assert url is not None
        with running_workers(settings, place.folder / "workers.log") as workers:
            async with (
                await open_pool(url, size=_OTHERS) as pool,
                await open_pool(url, size=options.connections) as doors,
            ):
                figures = await LoadCourse(
                    stand=Stand(pool, settings, workers, place.embedded),
                    doors=doors,
                    say=lambda text: console.print(text, highlight=False),
                    contacts=options.contacts,
                    rate=options.rate,
                    seconds=options.seconds,
                    seed=options.seed,
                ).run()
    return taken | {"options": vars(options), "figures": figures}


if __name__ == "__main__":
    sys.exit(main())
