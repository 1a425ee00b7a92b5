"""`sluice import`: contacts arrive from a CSV file."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from cli import options
from cli.context import Surroundings, run
from cli.input_files import STDIN
from cli.jobs import answer_with_job
from cli.progress import ProgressBar, follow
from cli.rendering import as_json, counted, hint, say
from cli.submit import user_name
from producers.imports import SubmittedImport, submit_import
from producers.job_view import JobStory, read_job
from schemas.actors import CLI
from schemas.errors import WrongInput

_SHOWN_COLUMNS = 20


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
    as_json_: options.Json = False,
) -> None:
    """Import contacts from a CSV file with a header, as Keap exports them.

    An address that is there keeps its status; nothing reopens an opt-out.
    """
    if permission is None:
        raise WrongInput(
            "Say whether these contacts agreed to broadcasts: --permission or --no-permission."
            " Nothing was stored."
        )
    given: dict[str, Any] = {
        "permission": permission,
        "tag": tag,
        "account": account,
        "mapping": parse_mapping(mapping or ()),
        "encoding": encoding,
        "requested_by": requested_by or user_name(),
        "idempotency_key": key,
        "actor": CLI,
    }

    async def work(here: Surroundings) -> tuple[SubmittedImport, JobStory | None]:
        submitted = await _upload(here, file, given)
        if not wait:
            return submitted, None
        _tell(submitted, hint)
        await follow(here, submitted.job_id)
        return submitted, await read_job(here.pool, submitted.job_id)

    submitted, story = run(work, rings=True)
    if story is not None:
        answer_with_job(story, ended=True, in_json=as_json_)
    elif as_json_:
        as_json(_as_dict(submitted))
    else:
        _tell(submitted, say)
        say(f"`sluice job {submitted.job_id} --watch` follows it.")


async def _upload(here: Surroundings, file: str, given: dict[str, Any]) -> SubmittedImport:
    source: str | BinaryIO = sys.stdin.buffer if file == STDIN else file
    total = _size(file)
    with ProgressBar(f"Reading {file}", of_bytes=True) as bar:

        def show(done: int, rows: int, refused: int) -> None:
            del refused
            bar.show(done, total, f"Reading {file}: {rows:,} contacts")

        return await submit_import(here.pool, here.settings, file=source, progress=show, **given)


def _size(file: str) -> int | None:
    """How many bytes are to come, where that can be known."""
    if file == STDIN:
        return None
    try:
        path = Path(file)
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        # Why it cannot be read is said by whoever reads it.
        return None


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """The meanings of headers from `HEADER=MEANING`; raises WrongInput."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        header, equals, meaning = pair.rpartition("=")
        if not (equals and header and meaning):
            raise WrongInput(
                f"--map {pair!r} is not HEADER=MEANING, as in 'Work mail=email2'."
                " Nothing was stored."
            )
        if header in mapping:
            raise WrongInput(f"--map gives the header {header!r} twice. Nothing was stored.")
        mapping[header] = meaning
    return mapping


def _tell(submitted: SubmittedImport, tell: Callable[[str], None]) -> None:
    tell(_told(submitted))
    if submitted.ignored_columns:
        shown = ", ".join(f'"{header}"' for header in submitted.ignored_columns[:_SHOWN_COLUMNS])
        more = len(submitted.ignored_columns) - _SHOWN_COLUMNS
        tell(f"Columns that were not read: {shown}{f' and {more:,} more' if more > 0 else ''}.")


def _told(submitted: SubmittedImport) -> str:
    counts = counted(submitted.rows, "contact")
    if submitted.refused:
        counts += f", {counted(submitted.refused, 'row')} refused"
    if submitted.left_out:
        counts += f", {counted(submitted.left_out, 'cell')} left out"
    if not submitted.created:
        return f"Job {submitted.job_id} was submitted before with this key: {counts}."
    unheard = "" if submitted.announced else " Redis did not answer; a worker finds it later."
    return f"Job {submitted.job_id} is stored: {counts}.{unheard}"


def _as_dict(submitted: SubmittedImport) -> dict[str, Any]:
    return {
        "job": submitted.job_id,
        "created": submitted.created,
        "contacts": submitted.rows,
        "refused_rows": submitted.refused,
        "left_out_cells": submitted.left_out,
        "ignored_columns": submitted.ignored_columns,
    }
