"""`python -m bench`: measure, show a table, and keep the figures in `bench/results/`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from bench import report
from bench.course import Course
from bench.machine import describe
from bench.measuring import Stand
from bench.places import Place, fresh_settings, place_to_measure
from bench.terminal import bar, wide_console
from bench.workers_group import running_workers
from chaos.interruption import INTERRUPTED, ended_by_sigterm
from db.pool import open_pool
from runtime import logs
from schemas.errors import SluiceError

_CONNECTIONS = 3


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--contacts", type=int, default=1_000_000, help="size of each list")
    parser.add_argument("--repeat", type=int, default=1, help="rounds of the three large jobs")
    parser.add_argument(
        "--skip-import", action="store_true", help="make the lists in the database instead"
    )
    parser.add_argument("--seed", type=int, default=20_240_501, help="of the generated file")
    parser.add_argument("--name", default="bench", help="what the file of results is called")
    parser.add_argument("--json", action="store_true", help="print the JSON and nothing else")
    parser.add_argument("--no-keep", action="store_true", help="write no file of results")
    options = parser.parse_args(arguments)
    if options.contacts < 1 or options.repeat < 1:
        parser.error("--contacts and --repeat have to be 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; gives the exit status: 0 also where a goal was missed."""
    options = _options(arguments)
    console = Console(stderr=True)
    try:
        with ended_by_sigterm(), place_to_measure() as place:
            taken = asyncio.run(_measure(place, options, console))
    except KeyboardInterrupt:
        console.print("Interrupted; everything was stopped and removed, and no figures were kept.")
        return INTERRUPTED
    except SluiceError as error:
        console.print(str(error), markup=False, highlight=False)
        return error.exit_code
    made = report.lines(taken["figures"])
    taken["table"] = [line._asdict() for line in made]
    if not options.no_keep:
        console.print(f"kept in {report.keep(taken, options.name)}", soft_wrap=True)
    if options.json:
        print(json.dumps(taken, indent=2, ensure_ascii=False))
    else:
        wide_console().print(report.table(made, _title(taken)))
    return 0


async def _measure(place: Place, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    taken_at = datetime.now(UTC)
    async with fresh_settings(place) as settings:
        logs.configure(settings.model_copy(update={"log_level": "error"}))
        assert settings.database_url is not None
        with (
            running_workers(settings, place.folder / "workers.log") as workers,
            bar(console, hidden=options.json) as progress,
        ):
            async with await open_pool(settings.database_url, size=_CONNECTIONS) as pool:
                machine = await describe(pool, place.servers.redis_url)
                figures = await Course(
                    stand=Stand(pool, settings, workers, place.embedded),
                    folder=place.folder,
                    progress=progress,
                    contacts=options.contacts,
                    repeat=options.repeat,
                    seed=options.seed,
                    with_import=not options.skip_import,
                ).run()
    return {
        "taken_at": taken_at.isoformat(timespec="seconds"),
        "options": vars(options),
        "machine": machine,
        "settings": settings.model_dump(exclude={"database_url", "redis_url", "queue_namespace"}),
        "embedded_servers": place.embedded,
        "figures": figures,
    }


def _title(taken: dict[str, Any]) -> str:
    machine, settings = taken["machine"], taken["settings"]
    return (
        f"{taken['figures']['contacts']:,} contacts, two addresses each;"
        f" {settings['worker_processes']} worker processes of {settings['worker_threads']} threads;"
        f" {machine['cores']} cores ({machine['cpu']}); Postgres {machine['postgres']}"
    )


if __name__ == "__main__":
    sys.exit(main())
