"""`sluice address`: the status of one address, its contacts and its history."""

from typing import Annotated

import typer

from actions.registry import describe_reason
from cli import options
from cli.context import CommandContext, run
from cli.rendering import format_count, print_facts, print_hint, print_json, print_table, print_text
from producers.accounts import require_account
from producers.address_history import AddressView, parse_match_key, read_address
from schemas.outcomes import Cause, Outcome
from schemas.views import AddressContact, AddressResult


def address(
    text: Annotated[str, typer.Argument(metavar="ADDRESS", help="The email address.")],
    *,
    account: options.Account = "default",
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="At most this many results of its history.")
    ] = 1000,
    json_output: options.Json = False,
) -> None:
    """Show an address: its status and why, its contacts, and its whole history."""
    match_key = parse_match_key(text)
    found = run(lambda ctx: read_one(ctx, account, match_key, limit=limit))
    if json_output:
        print_json(found)
    else:
        show_address(found, account)
    if len(found.history) == limit:
        print_hint(f"These are the newest {limit:,} results. `--limit` shows more.")


async def read_one(ctx: CommandContext, account: str, match_key: str, *, limit: int) -> AddressView:
    """Return the address with its newest results; raises NotFound."""
    async with ctx.pool.acquire() as connection:
        _, found = await read_address(
            connection,
            account_id=await require_account(connection, account),
            match_key=match_key,
            limit=limit,
            role_address_limit=ctx.settings.role_address_limit,
        )
    return found


def show_address(found: AddressView, account: str) -> None:
    """Print the address for people."""
    print_text(f"{found.address}  {found.status.value}")
    for sentence in found.explanation:
        print_text(f"  {sentence}")
    print_text("")
    print_facts(
        [
            ("account", account),
            ("since", found.status_changed_at),
            ("by job", str(found.status_job_id) if found.status_job_id else None),
            ("before that", found.previous_status.value if found.previous_status else None),
            ("propagated from", found.propagated_from_address),
        ]
    )
    print_text(f"\nHeld by {format_count(found.contact_count, 'contact')}:")
    print_table(
        ("contact", "field", "name", "company"),
        [(str(each.contact_id), each.field, _name(each), each.company) for each in found.contacts],
    )
    if found.contact_count > len(found.contacts):
        print_text(f"and {found.contact_count - len(found.contacts):,} more")
    print_text("\nIts history, newest first:")
    print_table(
        ("when", "job", "what happened", "requested by", "evidence"),
        [
            (
                result.decided_at,
                f"{result.job_id} {result.action}",
                describe_result(result),
                f"{result.requested_by} ({result.actor})" if result.actor else result.requested_by,
                result.evidence_source,
            )
            for result in found.history
        ],
    )


def describe_result(result: AddressResult) -> str:
    """Return one result of the address as a sentence."""
    where = f", in {result.field} of contact {result.contact_id}" if result.contact_id else ""
    if result.cause is Cause.PROPAGATED:
        where = f", propagated from {result.source_address}{where}"
    if result.outcome is Outcome.APPLIED:
        before = result.from_status.value if result.from_status else "new"
        assert result.to_status is not None
        return f"{before} → {result.to_status.value}{where}"
    meaning = describe_reason(result.reason)
    because = f"{result.reason}: {meaning}" if meaning else str(result.reason)
    error = f" ({result.error})" if result.error else ""
    return f"{result.outcome.value} ({because}){error}{where}"


def _name(contact: AddressContact) -> str:
    return " ".join(part for part in (contact.given_name, contact.family_name) if part)
