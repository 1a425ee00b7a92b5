"""`sluice demo`: the main job from start to end, as a marketer goes through it."""

import asyncio
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from cli.address import read_one, show_address
from cli.background_workers import background_workers, read_log_lines
from cli.context import CommandContext, command_settings, run_async
from cli.imports import upload
from cli.job_view import show_counts
from cli.progress import follow_job
from cli.rendering import print_command, print_hint, print_text
from cli.up import HTTP_DOCS_HINT
from db import accounts, address_history, exports
from db.exports import ExportFormat, PageRequest
from producers.job_view import JobView
from producers.sample_list import UNSUBSCRIBED, write_sample_list
from producers.submit import submit
from runtime.program import program_name
from runtime.settings import Settings, child_environment
from schemas.actors import CLI
from schemas.addresses import normalize_address
from schemas.errors import SluiceError
from schemas.job_key import JobKey
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
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives another list.")] = 7,
) -> None:
    """Run the main job here: import a list, opt people out, and opt in the rest.

    Everything is real: Postgres, a Redis-compatible server and two worker processes. The demo has
    its own account, which stays for you to look at.
    """
    began = time.monotonic()
    with command_settings(migrated=True) as settings, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "workers.log"
        # Two demos at the same time have an account each.
        account = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        with background_workers(child_environment(settings, LOG_FORMAT="json"), log):
            last_job = _Demo(settings, account).run(Path(folder) / "list.csv", contacts, seed)
            _print_heading("5. What the operators saw")
            for event in ("job.planned", "chunk.processed", "job.completed"):
                for line in read_log_lines(log, event)[-1:]:
                    print_text(line)
    print_text(f"\nAll of this took {time.monotonic() - began:,.0f} seconds. Look around:")
    for words in (
        f"jobs --account {account}",
        f"results {last_job} --outcome rejected --limit 10",
        f"results {last_job} --format csv > results.csv",
    ):
        print_command(f"{program_name()} {words}")
    print_text("To submit jobs, run servers, workers and HTTP in this terminal:")
    print_command(f"{program_name()} up")
    print_text("Then in another one, in this folder:")
    print_command(f"{program_name()} submit opt-out --all --account {account} --wait")
    print_text(f"`sluice up` shows the address of the HTTP API. {HTTP_DOCS_HINT}")


def _print_heading(title: str, text: str | None = None) -> None:
    print_text(f"\n{title}", style="bold")
    if text:
        print_text(text)


class _Demo(NamedTuple):
    """The jobs of the demo, in its account."""

    settings: Settings
    account: str

    def run(self, file: Path, contacts: int, seed: int) -> int:
        """Run every step and return the last job's id; raises SluiceError if a job fails."""
        self._run_async(self._create_account)
        _print_heading(
            "1. A list arrives from the old provider, without the permission box ticked",
            f"{contacts:,} rows; addresses that are new to the account become non_marketable.",
        )
        print_hint("Writing the list")
        with file.open("w", encoding="utf-8", newline="") as rows:
            write_sample_list(rows, contacts=contacts, seed=seed)
        self._run_job(lambda ctx: self._import(ctx, file))
        _print_heading(
            "2. The old provider's unsubscribes are opted out",
            "The opt-out of an address is propagated to the other addresses of its contact.",
        )
        self._run_job(
            lambda ctx: self._submit(
                ctx,
                action="opt_out",
                selection=Selection(tag=UNSUBSCRIBED),
                params={"note": "unsubscribed at the old provider"},
            )
        )
        _print_heading(
            "3. Everyone is opted in, with evidence of permission",
            "Every address is checked on its own; no opt-out is reopened.",
        )
        last_job = self._run_job(
            lambda ctx: self._submit(
                ctx,
                action="opt_in",
                selection=Selection(all=True),
                fields=("email1", "email2", "email3"),
                evidence=_evidence(),
            )
        )
        _print_heading("4. Why was this address not opted in?")
        self._run_async(lambda ctx: self._explain_rejection(ctx, last_job))
        return last_job

    def _run_async(self, work: Callable[[CommandContext], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(run_async(work, self.settings))

    def _run_job(self, start: Callable[[CommandContext], Coroutine[Any, Any, int]]) -> int:
        async def work(ctx: CommandContext) -> JobView:
            return await follow_job(ctx, await start(ctx))

        job = self._run_async(work)
        show_counts(job)
        if job.state is not JobState.COMPLETED:
            raise SluiceError(f"Job {job.id} is {job.state.value}. The demo cannot go on.")
        return job.id

    async def _create_account(self, ctx: CommandContext) -> None:
        async with ctx.pool.acquire() as connection:
            await accounts.create_account(connection, self.account)

    async def _import(self, ctx: CommandContext, file: Path) -> int:
        asked: dict[str, Any] = {"permission": False, "tag": "old provider", "mapping": {}}
        asked |= {"account": self.account, "requested_by": REQUESTER, "encoding": "utf-8"}
        return (await upload(ctx, str(file), asked, name="the list")).job_id

    async def _submit(self, ctx: CommandContext, **asked: Any) -> int:
        request = JobRequest(account=self.account, requested_by=REQUESTER, **asked)
        return (await submit(ctx.pool, ctx.settings, request, actor=CLI)).job_id

    async def _explain_rejection(self, ctx: CommandContext, job_id: int) -> None:
        """Show a rejected address, if possible one that an opt-out was propagated to."""
        match_key = await self._find_rejected(ctx, job_id)
        if match_key is None:
            print_text("No address was rejected. A larger list has some.")
            return
        words = f"address {shlex.quote(match_key)} --account {self.account}"
        print_command(f"$ {program_name()} {words}")
        print_text("")
        show_address(await read_one(ctx, self.account, match_key, limit=20), self.account)

    async def _find_rejected(self, ctx: CommandContext, job_id: int) -> str | None:
        async with ctx.pool.acquire() as connection:
            account_id = await accounts.get_account_id(connection, self.account)
            assert account_id is not None
            rejected = exports.export_results(JobKey(account_id, job_id), outcome=Outcome.REJECTED)
            request = PageRequest(ExportFormat.JSON, rejected.start, limit=500)
            page = await rejected.read_page(connection, request)
            addresses = [row["address"] for row in page.objects()]
            keys = [normalize_address(address).match_key for address in addresses if address]
            for key in keys:
                now = await address_history.get_address(
                    connection, account_id=account_id, match_key=key
                )
                if now is not None and now.propagated_from is not None and now.contact_count == 1:
                    return key
        return keys[0] if keys else None


def _evidence() -> dict[str, str]:
    today = datetime.now(UTC).date()
    return {
        "source": "previous_provider",
        "description": "Signed up on our web site between 2019 and this year; the old provider"
        " kept the records.",
        "collected_from": "2019-03-01",
        "collected_until": str(today - timedelta(days=30)),
        "attested_by": "Head of Marketing",
        "provider": "Old Provider Inc.",
        "last_emailed_on": str(today - timedelta(days=14)),
    }
