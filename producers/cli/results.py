"""`sluice results`: what became of each address of a job, as long as that list may be."""

import csv
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import typer

from db import reading
from producers.cli import options
from producers.cli.context import Surroundings, run
from producers.cli.rendering import hint, json_line, say, table
from producers.job_story import JobStory, brings_contacts, read_job
from schemas.errors import WrongInput
from schemas.outcomes import Outcome
from schemas.requests import FIELD_NAMES

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


Row = Mapping[str, Any]


class _Listing(NamedTuple):
    columns: tuple[str, ...]
    rows: Callable[[Surroundings, JobStory], AsyncIterator[Row]]


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
    as_json_: options.Json = False,
) -> None:
    """List what became of each address of a job, with the reason."""
    if reason and outcome in {Listed.UNPROCESSED, Listed.REFUSALS}:
        raise WrongInput("--reason narrows results; it cannot go with this --outcome.")
    form = Format.JSON if as_json_ else form
    most = limit or (ROWS_ON_SCREEN if form is Format.TABLE else None)

    async def work(here: Surroundings) -> None:
        story = await read_job(here.pool, job_id)
        of_import = brings_contacts(story.job.action)
        if outcome is Listed.UNPROCESSED and story.job.planned_at is None and not of_import:
            hint("Its contacts were not selected yet, so there is no list of them.")
        listing = _listing(outcome, reason, of_import=of_import)
        rows = _first(listing.rows(here, story), most)
        await _WRITERS[form](listing.columns, rows, most)

    run(work)


def _listing(outcome: Listed | None, reason: str | None, *, of_import: bool) -> _Listing:
    if outcome is Listed.UNPROCESSED and of_import:
        # The ids that were drawn for them are of no contacts.
        return _Listing(("line",), _unprocessed_lines)
    if outcome is Listed.UNPROCESSED:
        return _Listing(("contact_id",), _unprocessed)
    if outcome is Listed.REFUSALS:
        return _Listing(reading.Refused._fields, _refusals)
    wanted = Outcome(outcome.value) if outcome else None

    async def rows(here: Surroundings, story: JobStory) -> AsyncIterator[Row]:
        job = story.job
        async for result in reading.all_results(
            here.pool, account_id=job.account_id, job_id=job.id, outcome=wanted, reason=reason
        ):
            yield {**result._asdict(), "field": FIELD_NAMES[result.field]}

    return _Listing(_RESULT_COLUMNS, rows)


_RESULT_COLUMNS = (
    *("contact_id", "field", "address", "outcome", "reason", "from_status", "to_status"),
    *("cause", "source_address", "decided_at", "error"),
)


async def _unprocessed(here: Surroundings, story: JobStory) -> AsyncIterator[Row]:
    async for contact_id in reading.unprocessed_contacts(here.pool, story.job.id):
        yield {"contact_id": contact_id}


async def _unprocessed_lines(here: Surroundings, story: JobStory) -> AsyncIterator[Row]:
    async for line in reading.unprocessed_lines(here.pool, story.job.id):
        yield {"line": line}


async def _refusals(here: Surroundings, story: JobStory) -> AsyncIterator[Row]:
    async for row in reading.refusals(here.pool, story.job.id):
        yield row._asdict()


async def _first(rows: AsyncIterator[Row], most: int | None) -> AsyncIterator[Row]:
    count = 0
    async for row in rows:
        yield row
        count += 1
        if count == most:
            return


async def _write_table(
    columns: tuple[str, ...], rows: AsyncIterator[Row], most: int | None
) -> None:
    found = [row async for row in rows]
    if not found:
        say("There are none.")
        return
    # An error's text and the moment of each row are for files; ids are no quantities.
    shown = [column for column in columns if column not in {"decided_at", "error"}]
    table(shown, [[_cell(column, row[column]) for column in shown] for row in found])
    if len(found) == most:
        hint(f"The first {most:,}. `--format csv` gives all of them, `--limit` more here.")


def _cell(column: str, value: object) -> object:
    return str(value) if column in {"contact_id", "line"} else value


async def _write_csv(columns: tuple[str, ...], rows: AsyncIterator[Row], most: int | None) -> None:
    del most
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    async for row in rows:
        writer.writerow(
            {
                column: value.isoformat() if column == "decided_at" else value
                for column, value in row.items()
            }
        )


async def _write_json(columns: tuple[str, ...], rows: AsyncIterator[Row], most: int | None) -> None:
    del columns, most
    async for row in rows:
        sys.stdout.write(json_line(row))


_WRITERS = {Format.TABLE: _write_table, Format.CSV: _write_csv, Format.JSON: _write_json}
