"""`python -m bench.large`: what only shows itself with lists of ten million contacts."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench import results_files, table
from bench.__main__ import title
from bench.contenders import ONE_STATEMENT, Sluice, opt_in, warm_up
from bench.course import TITLES
from bench.goals import HUNDRED_THOUSAND, TEN, large_goals
from bench.places import Place
from bench.progress import Steps
from bench.reading import pages
from bench.rounds import Rounds, measured
from bench.sitting import circumstances, measured_or_exit
from bench.templates import Templates, making_templates
from bench.terminal import bar, wide_console
from runtime.settings import Settings

MILLION = 1_000_000
MORE_ROUNDS = 5

_FLEET = Sluice(2)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.large", description=__doc__)
    parser.add_argument("--contacts", type=int, default=TEN, help="of the large list")
    parser.add_argument(
        "--small", type=int, default=HUNDRED_THOUSAND, help="of the list to compare with"
    )
    parser.add_argument("--between", type=int, default=MILLION, help="of a list between them")
    parser.add_argument("--rounds", type=int, default=1, help="on the large list")
    parser.add_argument(
        "--more-rounds", type=int, default=MORE_ROUNDS, help="on each of the other lists"
    )
    options = parser.parse_args(arguments)
    numbers = (options.contacts, options.small, options.between)
    if min(*numbers, options.rounds, options.more_rounds) < 1:
        parser.error("all numbers have to be 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; gives the exit status. Of a smaller list nothing is kept."""
    options = _options(arguments)
    console = Console(stderr=True)
    taken = measured_or_exit(lambda place: _measure(place, options, console), console)
    made = large_goals(taken) + table.rates(taken["figures"], TITLES)
    wide_console().print(table.drawn(made, title(taken)))
    if is_whole(options):
        console.print(f"kept in {results_files.keep(taken, results_files.LARGE)}", soft_wrap=True)
    return 0


def is_whole(options: argparse.Namespace) -> bool:
    """Whether all was measured, as often as it has to be: `make bench` shows the newest file."""
    return bool(
        options.contacts >= TEN
        and options.small == HUNDRED_THOUSAND
        and options.between == MILLION
        and options.more_rounds >= MORE_ROUNDS
    )


async def _measure(place: Place, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    taken = await circumstances(place, Settings())
    with bar(console, hidden=False) as progress:
        steps = Steps(progress, console)
        async with making_templates(place.servers, steps.say) as templates:
            figures = await _figures(place, options, templates, steps)
    return taken | {
        "options": vars(options),
        "titles": TITLES,
        "parts": steps.parts,
        "figures": figures,
        "medians": results_files.medians(figures["rounds"]),
    }


async def _figures(
    place: Place, options: argparse.Namespace, templates: Templates, steps: Steps
) -> dict[str, Any]:
    async def rounds(name: str, contacts: int, times: int) -> dict[str, Any]:
        with steps.part(f"{contacts:,} contacts"):
            contenders = (ONE_STATEMENT, _FLEET)
            runs = await Rounds(templates, steps, place.folder, contenders, contacts, times).run()
        return {"group": name, "contacts": contacts, "runs": runs}

    return {
        "rounds": [
            await rounds("middle", options.small, options.more_rounds),
            await rounds("million", min(options.between, options.contacts), options.more_rounds),
            await rounds("large", options.contacts, options.rounds),
        ],
        "pages": await _pages(place, options.contacts, templates, steps),
    }


async def _pages(place: Place, contacts: int, templates: Templates, steps: Steps) -> dict[str, Any]:
    """After one opt-in of both addresses of all contacts, and nothing but that."""
    template = await templates.of(contacts)
    with steps.part("pages among the results"):
        async with templates.copy(template) as copy:
            async with _FLEET.on(copy, place.folder) as running:
                await warm_up(running, copy)
                done = await measured(copy, running, opt_in(copy), lambda _done, _planned: None)
            await copy.pool.execute("vacuum (analyze) results")
            async with copy.pool.acquire() as connection:
                return await pages(
                    connection,
                    account_id=template.account_id,
                    job_id=done["job"],
                    first=template.first,
                    contacts=contacts,
                )


if __name__ == "__main__":
    sys.exit(main())
