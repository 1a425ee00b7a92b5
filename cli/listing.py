"""Lists of rows: read those of one account or of all, show a page, name the next page."""

import shlex
from collections.abc import Callable, Coroutine, Sequence
from operator import methodcaller
from typing import Annotated, Any, TypeAlias, TypeVar

import asyncpg
import typer

from cli.context import CommandContext, run
from cli.layout import Column
from cli.rendering import print_hint, print_json, print_table, print_text
from producers.accounts import find_account

T = TypeVar("T")

AccountFilter: TypeAlias = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Only those of this account.")
]
Limit: TypeAlias = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")]


def read_list(
    account: str | None,
    query: Callable[[asyncpg.Connection, int | None], Coroutine[Any, Any, list[T]]],
) -> list[T]:
    """Return what the query finds for the id of the account; the id is None without an account.

    Raises NotFound for an unknown account.
    """

    async def work(ctx: CommandContext) -> list[T]:
        async with ctx.pool.acquire() as connection:
            return await query(connection, await find_account(connection, account))

    return run(work)


def optional(*headings: str) -> list[Column]:
    """Return columns that are left out if the terminal is too narrow, the last of them first."""
    return [Column(heading, is_optional=True) for heading in headings]


def show_list(
    rows: Sequence[T],
    columns: Sequence[str | Column],
    cells: Callable[[T], Sequence[object]],
    *,
    json_output: bool,
    as_json: Callable[[T], object] = methodcaller("_asdict"),
    empty: str = "",
    all_columns: str = "--json shows",
    next_page: Sequence[str] | None = None,
) -> None:
    """Print the rows as JSON or as a table; without rows, the sentence `empty`.

    Say what shows `all_columns` if some do not fit, and which command lists the `next_page`.
    """
    if json_output:
        print_json([as_json(row) for row in rows])
    elif not rows:
        print_text(empty)
    else:
        if omitted := print_table(columns, map(cells, rows)):
            print_hint(f"Not shown here: {', '.join(omitted)}. {all_columns} all columns.")
        if next_page:
            print_text(f"`{shlex.join(['sluice', *next_page])}` lists older ones.")
