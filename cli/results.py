"""`sluice results`: the result of each pair of a job, streamed however long the list is."""

import sys
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated, Any

import typer

from cli import options
from cli.context import CommandContext, run
from cli.rendering import print_hint, print_table, print_text
from db import exports, jobs
from db.exports import Export, ExportFormat
from producers.job_view import creates_contacts, export_unprocessed, lists_addresses, require_job
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
    """How rows are written; csv and json are streamed, one row per line."""

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
            help="Only rows with this outcome. `unprocessed` lists the contacts or listed addresses"
            " that the job has not reached (of an import, lines of its file). `import_rejections`"
            " lists what was left out of the file.",
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="REASON", help="Only results with this reason."),
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="json is one object per line.")
    ] = Format.TABLE,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help=f"At most this many rows. (default: table {MAX_TABLE_ROWS}, else all)",
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="For csv: each text as it is stored. Without it, an apostrophe is put before text"
            " that a spreadsheet would run as a formula.",
        ),
    ] = False,
    json_output: options.Json = False,
) -> None:
    """List the outcome of each pair of a job, with the reason."""
    if reason is not None and outcome in {ResultFilter.UNPROCESSED, ResultFilter.IMPORT_REJECTIONS}:
        raise InvalidRequest("--reason narrows results. It cannot be combined with this --outcome.")
    form = Format.JSON if json_output else form
    if raw and form is not Format.CSV:
        raise InvalidRequest("--raw is about CSV. Nothing was read. Give --format csv too.")
    run(lambda ctx: _write_results(ctx, job_id, outcome, reason, form, limit=limit, raw=raw))


async def _write_results(
    ctx: CommandContext,
    job_id: int,
    outcome: ResultFilter | None,
    reason: str | None,
    form: Format,
    *,
    limit: int | None,
    raw: bool,
) -> None:
    async with ctx.pool.acquire() as connection:
        job = await require_job(connection, job_id)
    has_own_items = creates_contacts(job.action) or lists_addresses(job)
    awaits_selection = job.planned_at is None and not has_own_items
    if outcome is ResultFilter.UNPROCESSED and awaits_selection:
        print_hint("Its contacts are not selected yet, so there is no list of them.")
    export = _choose_export(job, outcome, reason)
    if form is Format.TABLE:
        await _write_table(ctx, export, limit or MAX_TABLE_ROWS)
        return
    lines = ExportFormat.JSON
    if form is Format.CSV:
        sys.stdout.write(",".join(export.columns) + "\n")
        lines = ExportFormat.RAW_CSV if raw else ExportFormat.CSV
    async with aclosing(exports.stream_pages(ctx.pool, export, form=lines, limit=limit)) as pages:
        async for page in pages:
            sys.stdout.write(page.lines)


def _choose_export(job: jobs.Job, outcome: ResultFilter | None, reason: str | None) -> Export:
    if outcome is ResultFilter.UNPROCESSED:
        return export_unprocessed(job)
    if outcome is ResultFilter.IMPORT_REJECTIONS:
        return exports.export_import_rejections(job.key)
    wanted = Outcome(outcome.value) if outcome else None
    return exports.export_results(job.key, outcome=wanted, reason=reason)


async def _write_table(ctx: CommandContext, export: Export, limit: int) -> None:
    found: list[dict[str, Any]] = []
    async for page in exports.stream_pages(ctx.pool, export, form=ExportFormat.JSON, limit=limit):
        found += page.objects()
    if not found:
        print_text("There are no such results.")
        return
    columns = export.columns
    if export.columns == exports.CSV_COLUMNS:
        columns = ("contact_id", "field", "address", "outcome", "change")
        for row in found:
            row["change"] = _describe_change(row)
    print_table(
        [column.removesuffix("_id") for column in columns],
        [[_format_cell(column, row[column]) for column in columns] for row in found],
    )
    if len(found) >= limit:
        print_hint(
            f"These are the first {limit:,}. `--format csv` lists all, `--limit` shows more here."
        )


def _format_cell(column: str, value: object) -> object:
    """Return an id as text, so that it has no thousands separators."""
    is_id = column in {"contact_id", "line"} and value is not None
    return str(value) if is_id else value


def _describe_change(row: dict[str, Any]) -> str:
    """Say what was changed, or why not; the CSV has more."""
    if row["outcome"] == Outcome.APPLIED:
        told = f"{row['from_status'] or 'new'} → {row['to_status']}"
    else:
        told = row["reason"] or ""
    if row["source_address"]:
        told += f", propagated from {row['source_address']}"
    return f"{told} ({row['error']})" if row["error"] else told
