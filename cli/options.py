"""Options that several commands share."""

from typing import Annotated

import typer

from cli.errors import remember_json_output
from schemas.requests import MAX_ID

Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Answer with JSON, errors included.",
        callback=remember_json_output,
        is_eager=True,
    ),
]
Account = Annotated[str, typer.Option("--account", metavar="NAME", help="The account.")]
Encoding = Annotated[
    str,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="The encoding of the files, such as cp1252. UTF-8, and UTF-16 as Excel writes it, are"
        " recognized.",
    ),
]
JobId = Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="The job's number.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="TEXT",
        help="Idempotency key: with the same key, the same request creates no second job.",
    ),
]
RequestedBy = Annotated[
    str | None,
    typer.Option(
        "--requested-by",
        metavar="NAME",
        help="Who asks; stored with the job. (default: your user name)",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress until the job ends.")]
