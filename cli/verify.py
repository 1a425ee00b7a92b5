"""`sluice verify`: whether everything that must be true of the data is."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer

from cli import options
from cli.context import Surroundings, run
from cli.output_guard import for_who_reads
from cli.progress import ProgressBar
from cli.rendering import as_json, counted, say, table
from db.invariants import INVARIANTS, Found, Invariant, check
from producers.submit import named_account


class Checked(NamedTuple):
    """An invariant, what breaks it, and how long it took to tell."""

    invariant: Invariant
    found: Found
    seconds: float


def verify(
    *,
    account: Annotated[
        str | None, typer.Option("--account", help="Only the data of this account.")
    ] = None,
    under_way: Annotated[
        bool,
        typer.Option(
            "--under-way",
            help="Accept jobs that wait or run, as in production.",
        ),
    ] = False,
    as_json_: options.Json = False,
) -> None:
    """Prove that nothing is lost: check the whole database, and change nothing.

    The exit status is 1 when something is wrong. It reads all results, so it takes a while.
    """
    invariants = [each for each in INVARIANTS if not (under_way and each.at_rest_only)]
    checked = run(lambda here: _check_all(here, invariants, account))
    violations = sum(each.found.violations for each in checked)
    with for_who_reads():
        if as_json_:
            as_json({"violations": violations, "checks": [_as_dict(each) for each in checked]})
        else:
            _show(checked, violations)
    if violations:
        raise typer.Exit(1)


async def _check_all(
    here: Surroundings, invariants: Sequence[Invariant], account: str | None
) -> list[Checked]:
    checked = []
    async with here.pool.acquire() as connection:
        account_id = await named_account(connection, account)
        with ProgressBar("Checking") as bar:
            for number, invariant in enumerate(invariants):
                bar.show(number, len(invariants), f"Checking that {invariant.claim}")
                began = time.monotonic()
                found = await check(
                    connection,
                    invariant,
                    shared_address_limit=here.settings.shared_address_limit,
                    account_id=account_id,
                )
                checked.append(Checked(invariant, found, time.monotonic() - began))
            bar.show(len(invariants), len(invariants), "Checked")
    return checked


def _show(checked: Sequence[Checked], violations: int) -> None:
    table(
        ("check", "claim", "violations", "seconds"),
        [
            (
                each.invariant.name,
                each.invariant.claim,
                each.found.violations,
                f"{each.seconds:.1f}",
            )
            for each in checked
        ],
    )
    for each in checked:
        if each.found.violations:
            _show_examples(each)
    if violations:
        say(f"\n{counted(violations, 'violation')}. The runbook says what each would mean.")
    else:
        say("\nNo violations.")


def _show_examples(each: Checked) -> None:
    name, found = each.invariant.name, each.found
    shown = len(found.examples)
    first = f", the first {shown} of {found.violations:,}" if shown < found.violations else ""
    say(f"\n{name}{first}:")
    table(
        ("account", "job", "contact", "address", "what is wrong"),
        [(*map(_id, example[:4]), example.detail) for example in found.examples],
    )


def _id(number: int | None) -> str | None:
    """A number that names something is no quantity: it has no commas."""
    return None if number is None else str(number)


def _as_dict(each: Checked) -> dict[str, Any]:
    return {
        "name": each.invariant.name,
        "claim": each.invariant.claim,
        "violations": each.found.violations,
        "seconds": round(each.seconds, 3),
        "examples": [example._asdict() for example in each.found.examples],
    }
