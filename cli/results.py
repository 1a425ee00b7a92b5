"""`sluice results`: what became of each address of a job, as long as that list may be."""

import sys
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated, Any

import typer

from cli import options
from cli.context import Surroundings, run
from cli.rendering import hint, say, table
from db import exports
from db.exports import Form, Listing
from producers.job_view import (
    JobStory,
    brings_contacts,
    lists_addresses,
    read_job,
    unprocessed,
)
from schemas.errors import WrongInput
from schemas.outcomes import Outcome

ROWS_ON_SCREEN = 50


class Listed(StrEnum):
    """What `--outcome` can list."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    UNPROCESSED = "unprocessed"
    REFUSALS = "refusals"


class Format(StrEnum):
    """How the rows are written; csv and json are streamed, one row a line."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def results(
    job_id: options.JobId,
    *,
    outcome: Annotated[
        Listed | None,
        typer.Option(
            "--outcome",
            help="Only these; `unprocessed` lists the contacts that the job did not come to (of an"
            " import the lines of its file), `refusals` what was left out of an import's file.",
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Only results with this reason.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="json is one object a line.")] = (
        Format.TABLE
    ),
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help=f"At most so many rows. (default: table {ROWS_ON_SCREEN}, else all)",
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Of csv: each text as it is stored. Otherwise an apostrophe comes before what a"
            " spreadsheet would run as a formula.",
        ),
    ] = False,
    as_json_: options.Json = False,
) -> None:
    """List what became of each address of a job, with the reason."""
    if reason is not None and outcome in {Listed.UNPROCESSED, Listed.REFUSALS}:
        raise WrongInput("--reason narrows results. It cannot be combined with this --outcome.")
    form = Format.JSON if as_json_ else form
    if raw and form is not Format.CSV:
        raise WrongInput("--raw is about CSV. Nothing was read. Give --format csv too.")
    most = limit or (ROWS_ON_SCREEN if form is Format.TABLE else None)

    async def work(here: Surroundings) -> None:
        story = await read_job(here.pool, job_id)
        if outcome is Listed.UNPROCESSED and _is_to_be_selected(story):
            hint("Its contacts are not selected yet, so there is no list of them.")
        listing = _listing(story, outcome, reason)
        if form is Format.TABLE:
            await _write_table(here, listing, most)
        elif form is Format.JSON:
            await _write_lines(here, listing, most, Form.JSON)
        else:
            sys.stdout.write(",".join(listing.columns) + "\n")
            await _write_lines(here, listing, most, Form.RAW_CSV if raw else Form.CSV)

    run(work)


def _is_to_be_selected(story: JobStory) -> bool:
    brings_its_own = brings_contacts(story.job.action) or lists_addresses(story.job)
    return story.job.planned_at is None and not brings_its_own


def _listing(story: JobStory, outcome: Listed | None, reason: str | None) -> Listing:
    job = story.job
    if outcome is Listed.UNPROCESSED:
        return unprocessed(job)
    if outcome is Listed.REFUSALS:
        return exports.refusals(job.id)
    wanted = Outcome(outcome.value) if outcome else None
    return exports.Results(job.account_id, job.id, outcome=wanted, reason=reason)


async def _write_table(here: Surroundings, listing: Listing, most: int | None) -> None:
    found: list[dict[str, Any]] = []
    async for page in exports.pages(here.pool, listing, form=Form.JSON, most=most):
        found += page.objects()
    if not found:
        say("There are no such results.")
        return
    if isinstance(listing, exports.Results):
        table(
            ("contact", "field", "address", "outcome", "what happened"),
            [
                (_id(row["contact_id"]), row["field"], row["address"], row["outcome"], _told(row))
                for row in found
            ],
        )
    else:
        shown = listing.columns
        table(shown, [[_cell(column, row[column]) for column in shown] for row in found])
    if most is not None and len(found) >= most:
        hint(f"The first {most:,}. `--format csv` gives all of them, `--limit` more here.")


def _cell(column: str, value: object) -> object:
    return _id(value) if column in {"contact_id", "line"} else value


def _id(value: object) -> str | None:
    """Ids are no quantities."""
    return None if value is None else str(value)


def _told(row: dict[str, Any]) -> str:
    """What was changed, or why not; all of it is in the CSV."""
    if row["outcome"] == Outcome.APPLIED:
        told = f"{row['from_status'] or 'new'} → {row['to_status']}"
    else:
        told = row["reason"] or ""
    if row["source_address"]:
        told += f", spread from {row['source_address']}"
    return f"{told} ({row['error']})" if row["error"] else told


async def _write_lines(here: Surroundings, listing: Listing, most: int | None, form: Form) -> None:
    async with aclosing(exports.pages(here.pool, listing, form=form, most=most)) as pages:
        async for page in pages:
            sys.stdout.write(page.lines)
