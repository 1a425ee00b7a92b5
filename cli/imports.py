"""`sluice import`: contacts arrive from a CSV file."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from cli import options
from cli.context import CommandContext, run
from cli.input_files import STDIN
from cli.jobs import print_job
from cli.progress import ProgressBar, follow_job
from cli.rendering import format_count, print_hint, print_json, print_text
from cli.submit import get_user_name
from producers.imports import ImportSubmission, submit_import
from producers.job_view import JobView, read_job
from schemas.actors import CLI
from schemas.errors import InvalidRequest

_MAX_COLUMNS_SHOWN = 20


def import_contacts(
    file: Annotated[
        str, typer.Argument(metavar="FILE.csv", help="The contacts; - reads standard input.")
    ],
    *,
    permission: Annotated[
        bool | None,
        typer.Option(
            "--permission/--no-permission",
            help="Whether these contacts agreed to broadcasts. With it new addresses become"
            " single_opt_in and you are on record for it, without it non_marketable. One of the two"
            " has to be said.",
            show_default=False,
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="A tag for each contact.")] = None,
    account: options.Account = "default",
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="HEADER=MEANING",
            help="What a column means, as in --map 'Post=email2' or --map 'Mail source=ignore';"
            " repeatable.",
        ),
    ] = None,
    encoding: options.Encoding = "utf-8",
    requested_by: options.RequestedBy = None,
    key: options.Key = None,
    wait: options.Wait = False,
    json_output: options.Json = False,
) -> None:
    """Import contacts from a CSV file with a header, as Keap exports them.

    An address that is there keeps its status; nothing reopens an opt-out.
    """
    if permission is None:
        raise InvalidRequest(
            "Say whether these contacts agreed to broadcasts: --permission or --no-permission."
            " Nothing was stored."
        )
    given: dict[str, Any] = {
        "permission": permission,
        "tag": tag,
        "account": account,
        "mapping": parse_mapping(mapping or ()),
        "encoding": encoding,
        "requested_by": requested_by or get_user_name(),
        "idempotency_key": key,
        "actor": CLI,
    }

    async def work(ctx: CommandContext) -> tuple[ImportSubmission, JobView | None]:
        submitted = await _upload(ctx, file, given)
        if not wait:
            return submitted, None
        _print_submitted(submitted, print_hint)
        await follow_job(ctx, submitted.job_id)
        return submitted, await read_job(ctx.pool, submitted.job_id)

    submitted, story = run(work, enqueues=True)
    if story is not None:
        print_job(story, ended=True, json_output=json_output)
    elif json_output:
        print_json(_as_dict(submitted))
    else:
        _print_submitted(submitted, print_text)
        print_text(f"`sluice job {submitted.job_id} --watch` follows it.")


async def _upload(ctx: CommandContext, file: str, given: dict[str, Any]) -> ImportSubmission:
    source: str | BinaryIO = sys.stdin.buffer if file == STDIN else file
    total = _input_size(file)
    with ProgressBar(f"Reading {file}", counts_bytes=True) as bar:

        def show(done: int, rows: int, refused: int) -> None:
            del refused
            bar.show(done, total, f"Reading {file}: {rows:,} contacts")

        return await submit_import(ctx.pool, ctx.settings, file=source, progress=show, **given)


def _input_size(file: str) -> int | None:
    """Return the size of the file in bytes, or None if it cannot be known."""
    if file == STDIN:
        return None
    try:
        path = Path(file)
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        # Why it cannot be read is said by whoever reads it.
        return None


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Parse `HEADER=MEANING` pairs; raises InvalidRequest."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        header, equals, meaning = pair.rpartition("=")
        if not (equals and header and meaning):
            raise InvalidRequest(
                f"--map {pair!r} is not HEADER=MEANING, as in 'Work mail=email2'."
                " Nothing was stored."
            )
        if header in mapping:
            raise InvalidRequest(f"--map gives the header {header!r} twice. Nothing was stored.")
        mapping[header] = meaning
    return mapping


def _print_submitted(submitted: ImportSubmission, tell: Callable[[str], None]) -> None:
    tell(_summarize(submitted))
    if submitted.ignored_columns:
        shown = ", ".join(
            f'"{header}"' for header in submitted.ignored_columns[:_MAX_COLUMNS_SHOWN]
        )
        more = len(submitted.ignored_columns) - _MAX_COLUMNS_SHOWN
        tell(f"Columns that were not read: {shown}{f' and {more:,} more' if more > 0 else ''}.")


def _summarize(submitted: ImportSubmission) -> str:
    counts = format_count(submitted.rows, "contact")
    if submitted.rejected_rows:
        counts += f", {format_count(submitted.rejected_rows, 'row')} refused"
    if submitted.rejected_cells:
        counts += f", {format_count(submitted.rejected_cells, 'cell')} left out"
    if not submitted.created:
        return f"Job {submitted.job_id} was submitted before with this key: {counts}."
    unheard = "" if submitted.enqueued else " Redis did not answer; a worker finds it later."
    return f"Job {submitted.job_id} is stored: {counts}.{unheard}"


def _as_dict(submitted: ImportSubmission) -> dict[str, Any]:
    return {
        "job_id": submitted.job_id,
        "created": submitted.created,
        "contacts": submitted.rows,
        "count_rejected_rows": submitted.rejected_rows,
        "rejected_cells": submitted.rejected_cells,
        "ignored_columns": submitted.ignored_columns,
    }
