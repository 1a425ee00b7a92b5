"""`sluice address`: the whole story of one address."""

from typing import Annotated, Any

import asyncpg
import typer

from cli import options
from cli.context import Surroundings, run
from cli.rendering import as_json, counted, facts, hint, say, table
from db import address_history
from producers.address_history import AddressStory, read_story
from producers.explanations import explain, what_happened
from producers.submit import require_account
from schemas.addresses import InvalidAddress, identify
from schemas.errors import NotFound, WrongInput
from schemas.requests import FIELD_NAMES


def address(
    text: Annotated[str, typer.Argument(metavar="ADDRESS", help="The email address.")],
    *,
    account: options.Account = "default",
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="At most so many entries of its history.")
    ] = 1000,
    as_json_: options.Json = False,
) -> None:
    """Tell the story of an address: its status and why, its contacts, and its whole history."""
    try:
        match_key = identify(text).match_key
    except InvalidAddress as error:
        raise WrongInput(f"That is not an email address: {error}") from None

    async def work(here: Surroundings) -> AddressStory:
        return await read_address(here.pool, account, match_key, most=limit)

    story = run(work)
    if as_json_:
        as_json(_as_dict(story, account))
    else:
        show_address(story, account)
    if len(story.history) == limit:
        hint(f"The newest {limit:,} entries of its history; `--limit` shows more.")


async def read_address(
    pool: asyncpg.Pool, account: str, match_key: str, *, most: int
) -> AddressStory:
    """The story of an address, with its newest `most` chapters; raises NotFound."""
    async with pool.acquire() as connection:
        account_id = await require_account(connection, account)
        story = await read_story(connection, account_id=account_id, match_key=match_key, most=most)
    if story is None:
        raise NotFound(f"The account {account!r} does not know this address.")
    return story


def show_address(story: AddressStory, account: str) -> None:
    """The story for people."""
    now = story.now
    say(f"{now.address}  {now.status.value}")
    for sentence in explain(now):
        say(f"  {sentence}")
    say("")
    facts(
        [
            ("account", account),
            ("since", now.status_changed_at),
            ("by job", str(now.status_job_id) if now.status_job_id else None),
            ("before that", now.previous_status.value if now.previous_status else None),
            ("spread from", now.propagated_from_address),
        ]
    )
    say(f"\nHeld by {counted(story.holders_in_all, 'contact')}:")
    table(
        ("contact", "field", "name", "company"),
        [(str(h.contact_id), FIELD_NAMES[h.field], _name(h), h.company) for h in story.holders],
    )
    if story.holders_in_all > len(story.holders):
        say(f"and {story.holders_in_all - len(story.holders):,} more")
    say("\nIts history, newest first:")
    table(
        ("when", "job", "what happened", "who asked", "evidence"),
        [
            (
                c.decided_at,
                f"{c.job_id} {c.action}",
                what_happened(c),
                f"{c.requested_by} ({c.actor})" if c.actor else c.requested_by,
                c.evidence_source,
            )
            for c in story.history
        ],
    )


def _name(holder: address_history.Holder) -> str:
    return " ".join(part for part in (holder.given_name, holder.family_name) if part)


def _as_dict(story: AddressStory, account: str) -> dict[str, Any]:
    return {
        **story.now._asdict(),
        "account": account,
        "explanation": list(explain(story.now)),
        "contacts": [
            {**holder._asdict(), "field": FIELD_NAMES[holder.field]} for holder in story.holders
        ],
        "contacts_in_all": story.holders_in_all,
        "history": [
            {**chapter._asdict(), "field": FIELD_NAMES[chapter.field]} for chapter in story.history
        ],
    }
