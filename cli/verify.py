"""`sluice verify`: check every invariant of the database."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import typer

from cli import options
from cli.context import CommandContext, run
from cli.listing import AccountFilter
from cli.output_guard import OutputClosed
from cli.progress import ProgressBar
from cli.rendering import format_count, print_json, print_table, print_text
from db.invariants import INVARIANTS, Invariant, InvariantResult, check_invariant
from producers.accounts import find_account


class CheckResult(NamedTuple):
    """An invariant, its violations, and how long the check took."""

    invariant: Invariant
    found: InvariantResult
    seconds: float


def verify(
    *,
    account: AccountFilter = None,
    allow_running: Annotated[
        bool, typer.Option("--allow-running", help="Accept jobs that wait or run.")
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Check every invariant of the database, and change nothing.

    The exit status is 1 if there is a violation. It reads all results, so it takes a while.
    """
    invariants = [each for each in INVARIANTS if not (allow_running and each.at_rest_only)]
    checked = run(lambda ctx: _check_all(ctx, invariants, account))
    violations = sum(each.found.violations for each in checked)
    with suppress(OutputClosed):
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
                    role_address_limit=ctx.settings.role_address_limit,
                    account_id=account_id,
                )
                checked.append(CheckResult(invariant, found, time.monotonic() - began))
            bar.show(len(invariants), len(invariants), "Checked")
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
        print_text(f"\n{format_count(violations, 'violation')}. The runbook says what each means.")
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
    """Return an id as text, so that it has no thousands separators."""
    return None if number is None else str(number)


def _as_dict(each: CheckResult) -> dict[str, Any]:
    return {
        "name": each.invariant.name,
        "claim": each.invariant.claim,
        "violations": each.found.violations,
        "seconds": round(each.seconds, 3),
        "examples": [example._asdict() for example in each.found.examples],
    }
