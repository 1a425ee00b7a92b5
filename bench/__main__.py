"""`python -m bench`: compare Sluice with what else one would use, and show a table."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench import results_files, table
from bench.course import BY_KEY, NEEDS_PEERS, TITLES, Course, Sizes
from bench.line import Line
from bench.page import PAGE, PLOTS, write_page
from bench.peers import PYTHON, require_installed
from bench.places import Place
from bench.progress import Steps
from bench.sitting import circumstances, measured_or_exit
from bench.templates import making_templates
from bench.terminal import bar, wide_console
from runtime.settings import Settings
from tests.kit.worker_group import ROOT


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
        named = ", ".join(sorted(map(repr, unknown)))
        parser.error(f"--only does not know {named}; it knows {', '.join(BY_KEY)}")
    if any(number is not None and number < 1 for number in (options.contacts, options.rounds)):
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
    taken = measured_or_exit(lambda place: measure(place, options, console), console)
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
    if NEEDS_PEERS & set(options.only):
        require_installed()
    taken = await circumstances(place, Settings())
    sizes = sizes_of(options)
    with bar(console, hidden=options.json) as progress:
        steps = Steps(progress, console)
        async with making_templates(place.servers, steps.say) as templates:
            figures = await Course(templates, steps, place.folder, sizes, options.only).run()
    # Of a quick look, what was measured at another time says nothing.
    large = results_files.newest_large() if is_whole(options) else None
    made = table.lines(figures, large, TITLES)
    return taken | {
        "options": {"only": options.only} | sizes._asdict(),
        "titles": TITLES,
        "parts": steps.parts,
        "figures": figures,
        "medians": results_files.medians(figures["rounds"]),
        "table": [line._asdict() for line in made],
    }


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
    subprocess.run([PYTHON, "-m", "bench.plots", path, PLOTS], cwd=ROOT, check=True)
    console.print(f"kept in {path.relative_to(ROOT)}, shown in {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
