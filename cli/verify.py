"""`sluice verify`: whether everything that must be true of the data is."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer

from cli import options
from cli.context import CommandContext, run
from cli.output_guard import ignore_closed_output
from cli.progress import ProgressBar
from cli.rendering import format_count, print_json, print_table, print_text
from db.invariants import INVARIANTS, Invariant, InvariantResult, check_invariant
from producers.accounts import find_account


class CheckResult(NamedTuple):
    """An invariant, what breaks it, and how long it took to tell."""

    invariant: Invariant
    found: InvariantResult
    seconds: float


def verify(
    *,
    account: Annotated[
        str | None, typer.Option("--account", help="Only the data of this account.")
    ] = None,
    allow_running: Annotated[
        bool,
        typer.Option(
            "--allow-running",
            help="Accept jobs that wait or run, as in production.",
        ),
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Prove that nothing is lost: check the whole database, and change nothing.

    The exit status is 1 when something is wrong. It reads all results, so it takes a while.
    """
    invariants = [each for each in INVARIANTS if not (allow_running and each.at_rest_only)]
    checked = run(lambda ctx: _check_all(ctx, invariants, account))
    violations = sum(each.found.violations for each in checked)
    with ignore_closed_output():
        if json_output:
            print_json({"violations": violations, "checks": [_as_dict(each) for each in checked]})
        else:
            _show(checked, violations)
    if violations:
        raise typer.Exit(1)


async def _check_all(
    ctx: CommandContext, invariants: Sequence[Invariant], account: str | None
) -> list[CheckResult]:
    checked = []
    async with ctx.pool.acquire() as connection:
        account_id = await find_account(connection, account)
        with ProgressBar("Checking") as bar:
            for number, invariant in enumerate(invariants):
                bar.show(number, len(invariants), f"Checking that {invariant.claim}")
                began = time.monotonic()
                found = await check_invariant(
                    connection,
                    invariant,
                    shared_address_limit=ctx.settings.shared_address_limit,
                    account_id=account_id,
                )
                checked.append(CheckResult(invariant, found, time.monotonic() - began))
            bar.show(len(invariants), len(invariants), "CheckResult")
    return checked


def _show(checked: Sequence[CheckResult], violations: int) -> None:
    print_table(
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
        print_text(
            f"\n{format_count(violations, 'violation')}. The runbook says what each would mean."
        )
    else:
        print_text("\nNo violations.")


def _show_examples(each: CheckResult) -> None:
    name, found = each.invariant.name, each.found
    shown = len(found.examples)
    first = f", the first {shown} of {found.violations:,}" if shown < found.violations else ""
    print_text(f"\n{name}{first}:")
    print_table(
        ("account", "job", "contact", "address", "what is wrong"),
        [(*map(_id, example[:4]), example.detail) for example in found.examples],
    )


def _id(number: int | None) -> str | None:
    """Write an id without thousands separators."""
    return None if number is None else str(number)


def _as_dict(each: CheckResult) -> dict[str, Any]:
    return {
        "name": each.invariant.name,
        "claim": each.invariant.claim,
        "violations": each.found.violations,
        "seconds": round(each.seconds, 3),
        "examples": [example._asdict() for example in each.found.examples],
    }
