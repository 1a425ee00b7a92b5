"""`python -m bench.large`: what only shows itself with lists of ten million contacts."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from bench import results_files, table
from bench.__main__ import FAILED, described, title
from bench.contenders import ONE_STATEMENT, Sluice, opt_in, warm_up
from bench.course import TITLES
from bench.effects import EffectsDiffer
from bench.goals import TEN, large_goals
from bench.places import Place, place_to_measure
from bench.progress import Steps
from bench.reading import pages
from bench.rounds import Rounds, measured
from bench.templates import Templates, making_templates
from bench.terminal import bar, wide_console
from chaos.interruption import INTERRUPTED, ended_by_sigterm
from runtime import logs
from runtime.settings import Settings
from schemas.errors import SluiceError

_FLEET = Sluice(2)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.large", description=__doc__)
    parser.add_argument("--contacts", type=int, default=TEN, help="of the large list")
    parser.add_argument("--small", type=int, default=100_000, help="of the list to compare with")
    parser.add_argument("--rounds", type=int, default=1, help="on the large list")
    parser.add_argument("--small-rounds", type=int, default=5, help="on the small list")
    options = parser.parse_args(arguments)
    if min(options.contacts, options.small, options.rounds, options.small_rounds) < 1:
        parser.error("all numbers have to be 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; gives the exit status. Of a smaller list nothing is kept."""
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
    except EffectsDiffer as error:
        console.print(str(error), markup=False, highlight=False)
        return FAILED
    made = large_goals(taken) + table.rates(taken["figures"], TITLES)
    wide_console().print(table.drawn(made, title(taken)))
    # The table of `make bench` shows the newest file, which therefore has to be of the whole.
    if options.contacts >= TEN:
        console.print(f"kept in {results_files.keep(taken, results_files.LARGE)}", soft_wrap=True)
    return 0


async def _measure(place: Place, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    taken_at = datetime.now(UTC)
    settings = Settings()
    logs.configure(settings.model_copy(update={"log_level": "error"}))
    with bar(console, hidden=False) as progress:
        steps = Steps(progress, console)
        async with making_templates(place.servers, steps.say) as templates:
            machine = await described(place)
            figures = await _figures(place, options, templates, steps)
    return {
        "taken_at": taken_at.isoformat(timespec="seconds"),
        "options": vars(options),
        "machine": machine,
        "settings": settings.model_dump(exclude={"database_url", "redis_url", "queue_namespace"}),
        "embedded_servers": place.embedded,
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
            await rounds("middle", options.small, options.small_rounds),
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
