"""`sluice results`: what became of each address of a job, as long as that list may be."""

import sys
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated, Any

import typer

from cli import options
from cli.context import CommandContext, run
from cli.rendering import print_hint, print_table, print_text
from db import exports
from db.exports import Export, ExportFormat
from producers.job_view import (
    JobView,
    creates_contacts,
    lists_addresses,
    read_job,
    unprocessed_listing,
)
from schemas.errors import InvalidRequest
from schemas.outcomes import Outcome

MAX_TABLE_ROWS = 50


class ResultFilter(StrEnum):
    """What `--outcome` can list."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    UNPROCESSED = "unprocessed"
    IMPORT_REJECTIONS = "import_rejections"


class Format(StrEnum):
    """How the rows are written; csv and json are streamed, one row a line."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def results(
    job_id: options.JobId,
    *,
    outcome: Annotated[
        ResultFilter | None,
        typer.Option(
            "--outcome",
            help="Only these; `unprocessed` lists the contacts that the job did not come to (of an"
            " import the lines of its file), `import_rejections` what was left out of an"
            " import's file.",
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
            help=f"At most so many rows. (default: table {MAX_TABLE_ROWS}, else all)",
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
    json_output: options.Json = False,
) -> None:
    """List what became of each address of a job, with the reason."""
    if reason is not None and outcome in {ResultFilter.UNPROCESSED, ResultFilter.IMPORT_REJECTIONS}:
        raise InvalidRequest("--reason narrows results. It cannot be combined with this --outcome.")
    form = Format.JSON if json_output else form
    if raw and form is not Format.CSV:
        raise InvalidRequest("--raw is about CSV. Nothing was read. Give --format csv too.")
    most = limit or (MAX_TABLE_ROWS if form is Format.TABLE else None)

    async def work(ctx: CommandContext) -> None:
        story = await read_job(ctx.pool, job_id)
        if outcome is ResultFilter.UNPROCESSED and _awaits_selection(story):
            print_hint("Its contacts are not selected yet, so there is no list of them.")
        listing = _build_listing(story, outcome, reason)
        if form is Format.TABLE:
            await _write_table(ctx, listing, most)
        elif form is Format.JSON:
            await _write_lines(ctx, listing, most, ExportFormat.JSON)
        else:
            sys.stdout.write(",".join(listing.columns) + "\n")
            await _write_lines(
                ctx, listing, most, ExportFormat.RAW_CSV if raw else ExportFormat.CSV
            )

    run(work)


def _awaits_selection(story: JobView) -> bool:
    brings_its_own = creates_contacts(story.job.action) or lists_addresses(story.job)
    return story.job.planned_at is None and not brings_its_own


def _build_listing(story: JobView, outcome: ResultFilter | None, reason: str | None) -> Export:
    job = story.job
    if outcome is ResultFilter.UNPROCESSED:
        return unprocessed_listing(job)
    if outcome is ResultFilter.IMPORT_REJECTIONS:
        return exports.rejections(job.account_id, job.id)
    wanted = Outcome(outcome.value) if outcome else None
    return exports.Results(job.account_id, job.id, outcome=wanted, reason=reason)


async def _write_table(ctx: CommandContext, listing: Export, most: int | None) -> None:
    found: list[dict[str, Any]] = []
    async for page in exports.stream_pages(ctx.pool, listing, form=ExportFormat.JSON, limit=most):
        found += page.objects()
    if not found:
        print_text("There are no such results.")
        return
    if isinstance(listing, exports.Results):
        print_table(
            ("contact", "field", "address", "outcome", "what happened"),
            [
                (
                    _id(row["contact_id"]),
                    row["field"],
                    row["address"],
                    row["outcome"],
                    _describe_change(row),
                )
                for row in found
            ],
        )
    else:
        shown = listing.columns
        print_table(shown, [[_cell(column, row[column]) for column in shown] for row in found])
    if most is not None and len(found) >= most:
        print_hint(f"The first {most:,}. `--format csv` gives all of them, `--limit` more here.")


def _cell(column: str, value: object) -> object:
    return _id(value) if column in {"contact_id", "line"} else value


def _id(value: object) -> str | None:
    """Write an id without thousands separators."""
    return None if value is None else str(value)


def _describe_change(row: dict[str, Any]) -> str:
    """Describe what was changed, or why nothing was; the CSV has everything."""
    if row["outcome"] == Outcome.APPLIED:
        told = f"{row['from_status'] or 'new'} → {row['to_status']}"
    else:
        told = row["reason"] or ""
    if row["source_address"]:
        told += f", propagated from {row['source_address']}"
    return f"{told} ({row['error']})" if row["error"] else told


async def _write_lines(
    ctx: CommandContext, listing: Export, most: int | None, form: ExportFormat
) -> None:
    async with aclosing(exports.stream_pages(ctx.pool, listing, form=form, limit=most)) as pages:
        async for page in pages:
            sys.stdout.write(page.lines)
