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
Account = Annotated[str, typer.Option("--account", help="The account whose contacts are meant.")]
Encoding = Annotated[
    str,
    typer.Option(
        "--encoding",
        help="The encoding of the files given, such as cp1252. UTF-8, and UTF-16 as Excel writes"
        " it, are recognized.",
    ),
]
JobId = Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="The job's number.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="Idempotency key: the same key and request give the same job, however often sent.",
    ),
]
RequestedBy = Annotated[
    str | None,
    typer.Option("--requested-by", help="Who asks; kept with the job. (default: your user name)"),
]
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress, and return at its end.")]
