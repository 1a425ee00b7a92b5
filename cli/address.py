"""`sluice address`: the whole story of one address."""

from typing import Annotated, Any

import asyncpg
import typer

from cli import options
from cli.context import CommandContext, run
from cli.rendering import format_count, print_facts, print_hint, print_json, print_table, print_text
from db import address_history
from producers.accounts import require_account
from producers.address_history import AddressHistory, read_address_history
from producers.explanations import describe_decision, explain_status
from schemas.addresses import InvalidAddress, normalize_address
from schemas.errors import InvalidRequest, NotFound
from schemas.requests import FIELD_NAMES


def address(
    text: Annotated[str, typer.Argument(metavar="ADDRESS", help="The email address.")],
    *,
    account: options.Account = "default",
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="At most so many entries of its history.")
    ] = 1000,
    json_output: options.Json = False,
) -> None:
    """Tell the story of an address: its status and why, its contacts, and its whole history."""
    try:
        match_key = normalize_address(text).match_key
    except InvalidAddress as error:
        raise InvalidRequest(f"That is not an email address: {error}") from None

    async def work(ctx: CommandContext) -> AddressHistory:
        return await parse_address(ctx.pool, account, match_key, most=limit)

    story = run(work)
    if json_output:
        print_json(_as_dict(story, account))
    else:
        show_address(story, account)
    if len(story.history) == limit:
        print_hint(f"The newest {limit:,} entries of its history; `--limit` shows more.")


async def parse_address(
    pool: asyncpg.Pool, account: str, match_key: str, *, most: int
) -> AddressHistory:
    """Read the history of an address with its newest `most` results; raises NotFound."""
    async with pool.acquire() as connection:
        account_id = await require_account(connection, account)
        story = await read_address_history(
            connection, account_id=account_id, match_key=match_key, limit=most
        )
    if story is None:
        raise NotFound(f"The account {account!r} does not know this address.")
    return story


def show_address(story: AddressHistory, account: str) -> None:
    """Print the history for people."""
    now = story.now
    print_text(f"{now.address}  {now.status.value}")
    for sentence in explain_status(now):
        print_text(f"  {sentence}")
    print_text("")
    print_facts(
        [
            ("account", account),
            ("since", now.status_changed_at),
            ("by job", str(now.status_job_id) if now.status_job_id else None),
            ("before that", now.previous_status.value if now.previous_status else None),
            ("spread from", now.propagated_from_address),
        ]
    )
    print_text(f"\nHeld by {format_count(story.holder_count, 'contact')}:")
    print_table(
        ("contact", "field", "name", "company"),
        [(str(h.contact_id), FIELD_NAMES[h.field], _name(h), h.company) for h in story.holders],
    )
    if story.holder_count > len(story.holders):
        print_text(f"and {story.holder_count - len(story.holders):,} more")
    print_text("\nIts history, newest first:")
    print_table(
        ("when", "job", "what happened", "who asked", "evidence"),
        [
            (
                c.decided_at,
                f"{c.job_id} {c.action}",
                describe_decision(c),
                f"{c.requested_by} ({c.actor})" if c.actor else c.requested_by,
                c.evidence_source,
            )
            for c in story.history
        ],
    )


def _name(holder: address_history.AddressContact) -> str:
    return " ".join(part for part in (holder.given_name, holder.family_name) if part)


def _as_dict(story: AddressHistory, account: str) -> dict[str, Any]:
    return {
        **story.now._asdict(),
        "account": account,
        "explanation": list(explain_status(story.now)),
        "contacts": [
            {**holder._asdict(), "field": FIELD_NAMES[holder.field]} for holder in story.holders
        ],
        "contact_count": story.holder_count,
        "history": [
            {**chapter._asdict(), "field": FIELD_NAMES[chapter.field]} for chapter in story.history
        ],
    }
