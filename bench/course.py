"""The course of the measurements, one after the other, and what each is done on."""

from pathlib import Path
from typing import Any, NamedTuple, Self

from rich.progress import Progress

from bench import lists
from bench.contact_csv import write_contacts
from bench.measuring import (
    Show,
    Stand,
    Task,
    first_contacts,
    measure_import,
    measure_job,
    measure_small_jobs,
)
from producers.accounts import create_account

BOTH = ("email1", "email2")


class Course(NamedTuple):
    """Which measurements to take, with how many contacts, how often."""

    stand: Stand
    folder: Path
    progress: Progress
    contacts: int
    repeat: int
    seed: int
    with_import: bool

    async def run(self) -> dict[str, Any]:
        """Take all measurements; rounds of the three jobs alternate, each on a list of its own."""
        figures: dict[str, Any] = {
            "contacts": self.contacts,
            "opt_in": [],
            "opt_out": [],
            "opt_out_spread": [],
        }
        account, account_id = "", 0
        if self.with_import:
            account, account_id, figures["import"] = await self._import()
        for round_no in range(1, self.repeat + 1):
            if round_no > 1 or not self.with_import:
                account, account_id = await self._filled(f"both-{round_no}", round_no)
            figures["opt_in"].append(await self._job(Task(account, "opt_in", BOTH), round_no))
            figures["opt_out"].append(await self._job(Task(account, "opt_out", BOTH), round_no))
            other, _ = await self._filled(f"spread-{round_no}", round_no)
            figures["opt_out_spread"].append(
                await self._job(Task(other, "opt_out", ("email1",)), round_no)
            )
        figures["one_contact"] = await self._small_jobs(account, account_id)
        return figures

    async def _import(self) -> tuple[str, int, dict[str, Any]]:
        account = "imported"
        account_id = await create_account(self.stand.pool, account)
        file = self.folder / "contacts.csv"
        with self._step("writing the CSV"):
            size = write_contacts(file, self.contacts, seed=self.seed)
        await lists.settle(self.stand.pool)
        with self._step("import") as step:
            figures, _ = await measure_import(self.stand, account, str(file), step.show)
        file.unlink()
        return account, account_id, figures | {"file_mb": round(size / 1e6, 1)}

    async def _filled(self, account: str, round_no: int) -> tuple[str, int]:
        account_id = await create_account(self.stand.pool, account)
        with self._step(f"round {round_no}: making a list"):
            await lists.fill(self.stand.pool, account_id, self.contacts)
        return account, account_id

    async def _job(self, task: Task, round_no: int) -> dict[str, Any]:
        await lists.settle(self.stand.pool)
        with self._step(f"round {round_no}: {task.action} of {', '.join(task.fields)}") as step:
            return await measure_job(self.stand, task, step.show)

    async def _small_jobs(self, account: str, account_id: int) -> dict[str, Any]:
        await lists.settle(self.stand.pool)
        with self._step("jobs of one contact"):
            contacts = await first_contacts(self.stand.pool, account_id)
            return await measure_small_jobs(self.stand, account, contacts)

    def _step(self, label: str) -> "_Step":
        return _Step(self.progress, label)


class _Step:
    """A line of the progress display, there while something is done."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=None)
        self.show: Show = self._show

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.remove_task(self._task)

    def _show(self, done: int, planned: int) -> None:
        self._progress.update(self._task, completed=done, total=planned or None)
