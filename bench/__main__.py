"""`python -m bench`: compare Sluice with what else one would use, and show a table."""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from bench import results_files, table
from bench.course import BY_KEY, NEEDS_PEERS, TITLES, Course, Sizes
from bench.effects import EffectsDiffer
from bench.line import Line
from bench.machine import describe
from bench.page import PAGE, PLOTS, write_page
from bench.peers import PYTHON, PeerFailed, require_installed
from bench.places import Place, place_to_measure
from bench.progress import Steps
from bench.templates import making_templates
from bench.terminal import bar, wide_console
from chaos.interruption import INTERRUPTED, ended_by_sigterm
from chaos.worker_group import ROOT
from db.pool import open_pool
from runtime import logs
from runtime.settings import Settings
from schemas.errors import SluiceError

FAILED = 1
"""The exit status where the contenders did not do the same work, or one did not do it at all."""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--contacts", type=int, help="a quick look: lists of at most so many contacts"
    )
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument(
        "--only", default=",".join(BY_KEY), help="whom to compare, with commas: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON and nothing else")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(BY_KEY):
        parser.error(f"--only does not know {', '.join(sorted(unknown))}")
    if min(options.contacts or 1, options.rounds or 1) < 1:
        parser.error("--contacts and --rounds have to be 1 or more")
    return options


def sizes_of(options: argparse.Namespace) -> Sizes:
    """How much to measure with these options."""
    sizes = Sizes() if options.contacts is None else Sizes.quick(options.contacts)
    return sizes if options.rounds is None else sizes._replace(rounds=options.rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; gives the exit status: 0 also where a goal was missed."""
    options = _options(arguments)
    console = Console(stderr=True)
    try:
        if NEEDS_PEERS & set(options.only):
            require_installed()
        with ended_by_sigterm(), place_to_measure() as place:
            taken = asyncio.run(measure(place, options, console))
    except KeyboardInterrupt:
        console.print("Interrupted; everything was stopped and removed, and no figures were kept.")
        return INTERRUPTED
    except SluiceError as error:
        console.print(str(error), markup=False, highlight=False)
        return error.exit_code
    except (EffectsDiffer, PeerFailed) as error:
        console.print(str(error), markup=False, highlight=False)
        return FAILED
    if options.json:
        print(json.dumps(taken, indent=2, ensure_ascii=False))
    else:
        wide_console().print(table.drawn([Line(**row) for row in taken["table"]], title(taken)))
    if is_whole(options):
        _keep(taken, console)
    return 0


def is_whole(options: argparse.Namespace) -> bool:
    """Whether all was measured, as often as it has to be; of a quick look nothing is kept."""
    everyone = set(options.only) == set(BY_KEY)
    return options.contacts is None and everyone and sizes_of(options).rounds >= Sizes().rounds


async def measure(place: Place, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything that was measured, with its table."""
    taken_at = datetime.now(UTC)
    settings = Settings()
    logs.configure(settings.model_copy(update={"log_level": "error"}))
    sizes = sizes_of(options)
    with bar(console, hidden=options.json) as progress:
        steps = Steps(progress, console)
        async with making_templates(place.servers, steps.say) as templates:
            machine = await described(place)
            figures = await Course(templates, steps, place.folder, sizes, options.only).run()
    made = table.lines(figures, results_files.newest_large(), TITLES)
    return {
        "taken_at": taken_at.isoformat(timespec="seconds"),
        "options": {"only": options.only} | sizes._asdict(),
        "machine": machine,
        "settings": settings.model_dump(exclude={"database_url", "redis_url", "queue_namespace"}),
        "embedded_servers": place.embedded,
        "titles": TITLES,
        "parts": steps.parts,
        "figures": figures,
        "medians": results_files.medians(figures["rounds"]),
        "table": [line._asdict() for line in made],
    }


async def described(place: Place) -> dict[str, Any]:
    """The machine and the servers."""
    async with await open_pool(place.servers.database_url, size=1) as pool:
        return await describe(pool, place.servers.redis_url)


def title(taken: dict[str, Any]) -> str:
    """What stands above the table."""
    machine, parts = taken["machine"], taken["parts"]
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_mb'] / 1024:.0f} GB;"
        f" Postgres {machine['postgres']}; {sum(parts.values()):.0f} s in all"
    )


def _keep(taken: dict[str, Any], console: Console) -> None:
    """The file of results, the page made of it, and its plots."""
    path = results_files.keep(taken, "bench")
    write_page(taken, PAGE)
    large = results_files.newest_large_file()
    files = [path, PLOTS, *([large] if large else [])]
    subprocess.run([PYTHON, "-m", "bench.plots", *files], cwd=ROOT, check=True)
    console.print(f"kept in {path.relative_to(ROOT)}, shown in {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
