"""`sluice import`: create contacts from a CSV file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from cli import options
from cli.context import CommandContext
from cli.input_files import STDIN, get_stdin, get_user_name
from cli.progress import ProgressBar
from cli.rendering import format_count
from cli.submission import submit_and_show
from producers.imports import ImportSubmission, submit_import
from schemas.actors import CLI
from schemas.errors import InvalidRequest

_MAX_COLUMNS_SHOWN = 20

_File = Annotated[
    str, typer.Argument(metavar="FILE.csv", help="The contacts; - reads standard input.")
]
_Permission = Annotated[
    bool | None,
    typer.Option(
        "--permission/--no-permission",
        help="Did these contacts agree to broadcasts? With --permission, new addresses become"
        " single_opt_in, and you are on record for it. With --no-permission, they become"
        " non_marketable. One of the two is required.",
        show_default=False,
    ),
]
_Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="A tag for each contact.")]
_Mapping = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="HEADER=MEANING",
        help="What a column means, as in --map 'Post=email2' or --map 'Mail source=ignore'."
        " Repeatable.",
    ),
]


def import_contacts(
    file: _File,
    *,
    permission: _Permission = None,
    tag: _Tag = None,
    account: options.Account = "default",
    mapping: _Mapping = None,
    encoding: options.Encoding = "utf-8",
    requested_by: options.RequestedBy = None,
    key: options.Key = None,
    wait: options.Wait = False,
    json_output: options.Json = False,
) -> None:
    """Import contacts from a CSV file with a header, as Keap exports them.

    Existing addresses keep their status, and no opt-out is reopened.
    """
    if permission is None:
        raise InvalidRequest(
            "It is not stated whether these contacts agreed to broadcasts. Nothing was stored. Give"
            " --permission or --no-permission."
        )
    asked = {
        "permission": permission,
        "tag": tag,
        "account": account,
        "mapping": parse_mapping(mapping or ()),
        "encoding": encoding,
        "requested_by": requested_by or get_user_name(),
        "idempotency_key": key,
    }
    submit_and_show(
        lambda ctx: upload(ctx, file, asked), _describe, wait=wait, json_output=json_output
    )


async def upload(
    ctx: CommandContext, file: str, asked: dict[str, Any], *, name: str | None = None
) -> ImportSubmission:
    """Submit the import of the file (`-`: standard input), with a bar that shows its name."""
    source: str | BinaryIO = get_stdin() if file == STDIN else file
    total = _input_size(file)
    label = f"Reading {name or file}"
    with ProgressBar(label, counts_bytes=True) as bar:

        def show(done: int, rows: int, _rejected: int) -> None:
            bar.show(done, total, f"{label}: {rows:,} contacts")

        return await submit_import(
            ctx.pool, ctx.settings, file=source, progress=show, actor=CLI, **asked
        )


def _input_size(file: str) -> int | None:
    """Return how many bytes the file has, if that can be known."""
    if file == STDIN:
        return None
    try:
        path = Path(file)
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        # Opening it raises the error that names the cause.
        return None


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Return the meanings by header, from `HEADER=MEANING`; raises InvalidRequest."""
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


def _describe(submission: ImportSubmission) -> list[str]:
    counts = format_count(submission.rows, "contact")
    if submission.rejected_rows:
        counts += f", {format_count(submission.rejected_rows, 'row')} rejected"
    if submission.rejected_cells:
        counts += f", {format_count(submission.rejected_cells, 'cell')} left out"
    state = "is stored" if submission.created else "was submitted before with this key"
    told = [f"Job {submission.job_id} {state}: {counts}."]
    if submission.ignored_columns:
        headers = [f'"{header}"' for header in submission.ignored_columns[:_MAX_COLUMNS_SHOWN]]
        more = len(submission.ignored_columns) - len(headers)
        tail = f" and {more:,} more" if more else ""
        told.append(f"Columns that were not read: {', '.join(headers)}{tail}.")
    return told
