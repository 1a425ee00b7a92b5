"""`sluice demo`: the main job from start to end, as a marketer would live through it."""

import asyncio
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cli.address import parse_address, show_address
from cli.background_workers import background_workers, read_log_lines
from cli.context import CommandContext, command_settings, run_async
from cli.job_view import show_counts
from cli.progress import ProgressBar, follow_job
from cli.rendering import print_command, print_hint, print_text
from cli.up import HTTP_DOCS_HINT
from db import accounts, address_history, exports
from db.exports import ExportFormat
from producers.imports import submit_import
from producers.job_view import JobView, read_job
from producers.sample_list import UNSUBSCRIBED, write_sample_list
from producers.submit import submit
from runtime.program import program_name
from runtime.settings import Settings, child_environment
from schemas.actors import CLI
from schemas.addresses import normalize_address
from schemas.errors import SluiceError
from schemas.outcomes import JobState, Outcome
from schemas.requests import JobRequest, Selection

T = TypeVar("T")

DEFAULT_CONTACTS = 100_000
REQUESTER = "demo"


def demo(
    *,
    contacts: Annotated[
        int, typer.Option("--contacts", min=1, max=10_000_000, help="How many contacts.")
    ] = DEFAULT_CONTACTS,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another list.")] = 7,
) -> None:
    """Run the main job here: a list arrives, people are opted out, the rest is opted in.

    Everything is real: Postgres, a Redis-compatible server and two worker processes. The demo has
    an account of its own, which stays for looking around.
    """
    began = time.monotonic()
    with command_settings(migrated=True) as settings, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "workers.log"
        environment = child_environment(settings, LOG_FORMAT="json")
        with background_workers(environment, log):
            demo_run = _Demo(settings, Path(folder), contacts, seed)
            demo_run.run()
            demo_run.show_log(log)
    print_text(f"\nAll of this took {time.monotonic() - began:,.0f} seconds. Look around:")
    demo_run.show_what_next()


class _Demo:
    """The story, step by step."""

    def __init__(self, settings: Settings, folder: Path, contacts: int, seed: int) -> None:
        self._settings = settings
        self._file = folder / "old-provider.csv"
        self._contacts = contacts
        self._seed = seed
        # Two demos at a time have an account each.
        self._account = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self._last_job = 0

    def run(self) -> None:
        """Run every step; raises SluiceError if a job does not complete."""
        self._answer(self._make_account)
        self._print_heading(
            "1. A list arrives from the old provider, without the permission box ticked",
            f"{self._contacts:,} rows; what is new to the account becomes non_marketable.",
        )
        self._write_list()
        self._run(self._import)
        self._print_heading(
            "2. The old provider's unsubscribes are opted out",
            "The opt-out of one address spreads to the same person's others.",
        )
        self._run(self._opt_out)
        self._print_heading(
            "3. Everyone is opted in, with evidence of permission",
            "Every address is checked on its own; no opt-out is reopened.",
        )
        self._run(self._opt_in)
        self._print_heading("4. Why was this address not opted in?", "")
        self._explain()

    def show_log(self, log: Path) -> None:
        """Print three lines as the workers wrote them."""
        self._print_heading("5. What the operators saw", "")
        for event in ("job.planned", "chunk.processed", "job.completed"):
            for line in read_log_lines(log, event)[-1:]:
                print_text(line)

    def show_what_next(self) -> None:
        """Print commands that work from here."""
        job = self._last_job
        for words in (
            f"jobs --account {self._account}",
            f"results {job} --outcome rejected --limit 10",
            f"results {job} --format csv > results.csv",
        ):
            print_command(f"{program_name()} {words}")
        print_text("To submit jobs, run servers, workers and HTTP in this terminal:")
        print_command(f"{program_name()} up")
        print_text("Then in another one, in this folder:")
        print_command(
            f"{program_name()} submit opt-out --all --account {self._account} --field email1 --wait"
        )
        print_text(f"`sluice up` shows where HTTP answers. {HTTP_DOCS_HINT}")

    def _answer(self, work: Callable[[CommandContext], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(run_async(work, self._settings))

    def _print_heading(self, title: str, text: str) -> None:
        print_text(f"\n{title}", style="bold")
        if text:
            print_text(text)

    async def _make_account(self, ctx: CommandContext) -> None:
        async with ctx.pool.acquire() as connection:
            await accounts.create_account(connection, self._account)

    def _write_list(self) -> None:
        print_hint("Writing the list")
        with self._file.open("w", encoding="utf-8", newline="") as file:
            write_sample_list(file, contacts=self._contacts, seed=self._seed)

    def _run(self, start: Callable[[CommandContext], Coroutine[Any, Any, int]]) -> None:
        """Follow a job from its submission to its counts."""

        async def work(ctx: CommandContext) -> JobView:
            job_id = await start(ctx)
            await follow_job(ctx, job_id)
            return await read_job(ctx.pool, job_id)

        story = self._answer(work)
        self._last_job = story.job.id
        show_counts(story)
        if story.progress.state is not JobState.COMPLETED:
            raise SluiceError(f"Job {story.job.id} ended as {story.progress.state.value}.")

    async def _import(self, ctx: CommandContext) -> int:
        size = self._file.stat().st_size
        with ProgressBar("Reading the list", counts_bytes=True) as bar:
            submitted = await submit_import(
                ctx.pool,
                ctx.settings,
                file=self._file,
                account=self._account,
                permission=False,
                tag="old provider",
                mapping={},
                encoding="utf-8",
                requested_by=REQUESTER,
                actor=CLI,
                progress=lambda read, _rows, _refused: bar.show(read, size),
            )
        return submitted.job_id

    async def _opt_out(self, ctx: CommandContext) -> int:
        request = JobRequest(
            account=self._account,
            action="opt_out",
            selection=Selection(tag=UNSUBSCRIBED),
            params={"note": "unsubscribed at the old provider"},
            requested_by=REQUESTER,
        )
        return (await submit(ctx.pool, ctx.settings, request, actor=CLI)).job_id

    async def _opt_in(self, ctx: CommandContext) -> int:
        today = datetime.now(UTC).date()
        request = JobRequest(
            account=self._account,
            action="opt_in",
            selection=Selection(all=True),
            fields=("email1", "email2", "email3"),
            evidence={
                "source": "previous_provider",
                "description": "Signed up on our web site between 2019 and this year; the old"
                " provider kept the records.",
                "collected_from": "2019-03-01",
                "collected_until": str(today - timedelta(days=30)),
                "attested_by": "Head of Marketing",
                "provider": "Old Provider Inc.",
                "last_emailed_on": str(today - timedelta(days=14)),
            },
            requested_by=REQUESTER,
        )
        return (await submit(ctx.pool, ctx.settings, request, actor=CLI)).job_id

    def _explain(self) -> None:
        """Print the whole history of one address to which an opt-out was propagated."""

        async def work(ctx: CommandContext) -> None:
            match_key = await self._rejected_address(ctx)
            if match_key is None:
                print_text("No address was rejected; a larger list has some.")
                return
            command = f"{program_name()} address {shlex.quote(match_key)} --account {self._account}"
            print_command(f"$ {command}")
            print_text("")
            story = await parse_address(ctx.pool, self._account, match_key, most=20)
            show_address(story, self._account)

        self._answer(work)

    async def _rejected_address(self, ctx: CommandContext) -> str | None:
        """Return an address that the opt-in rejected, if possible because of an opted-out
        sibling.
        """
        async with ctx.pool.acquire() as connection:
            account_id = await accounts.get_account_id(connection, self._account)
            assert account_id is not None
            refused = exports.Results(account_id, self._last_job, outcome=Outcome.REJECTED)
            page = await refused.page(
                connection, form=ExportFormat.JSON, after=refused.start, limit=500
            )
            addresses = [row["address"] for row in page.objects()]
            keys = [normalize_address(address).match_key for address in addresses if address]
            for key in keys:
                now = await address_history.get_address(
                    connection, account_id=account_id, match_key=key
                )
                if now is not None and now.propagated_from is not None and now.contact_count == 1:
                    return key
        return keys[0] if keys else None
