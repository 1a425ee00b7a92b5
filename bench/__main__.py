"""`python -m bench`: compare Sluice with its alternatives, and print tables."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from bench.competitor_processes import require_installed
from bench.competitors.commands import COMPETITORS
from bench.contenders import CONTENDERS
from bench.plan import plan_of
from bench.report import PAGE, print_report, tables, write_page
from bench.samples import Session
from bench.session import Sizes, run_session
from tests.kit.worker_group import ROOT


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options, with `sizes`. Exit with a sentence if they are invalid."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--contacts", type=int, help="a quick look: the most contacts in a list")
    parser.add_argument("--rounds", type=int, help="how often each contender is measured")
    parser.add_argument("--large", action="store_true", help="measure ten million contacts")
    parser.add_argument(
        "--only", default=",".join(CONTENDERS), help="contenders, with commas: %(default)s"
    )
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(CONTENDERS):
        parser.error(f"unknown in --only: {', '.join(unknown)}; known: {', '.join(CONTENDERS)}")
    if any(number is not None and number < 1 for number in (options.contacts, options.rounds)):
        parser.error("--contacts and --rounds must be 1 or more")
    options.sizes = Sizes() if options.contacts is None else Sizes.quick(options.contacts)
    if options.rounds is not None:
        options.sizes = options.sizes._replace(rounds=options.rounds)
    return options


def is_complete(options: argparse.Namespace) -> bool:
    """Return whether everything is measured, with enough rounds for the figures to be kept."""
    all_contenders = set(options.only) == set(CONTENDERS)
    return options.contacts is None and all_contenders and options.sizes.rounds >= Sizes().rounds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements. Return the exit status, which is 0 even if a goal was missed."""
    options = parse(arguments)
    console = Console(stderr=True)

    if set(COMPETITORS) & set(options.only) and not options.large:
        require_installed()
    measure = plan_of(options.only, large=options.large)
    session = run_session(measure, options.sizes, console)
    kept = is_complete(options)
    large = Session.read("large") if kept and not options.large else None
    print_report(tables(session, large))
    if kept:
        path = session.keep("large" if options.large else "bench")
        console.print(f"kept in {path.relative_to(ROOT)}")
        newest = Session.read("bench")
        if newest is not None:
            write_page(newest, Session.read("large"), PAGE)
            console.print(f"shown in {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
