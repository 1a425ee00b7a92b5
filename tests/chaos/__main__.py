"""`python -m tests.chaos`: inject faults into a running service, then check what must hold."""

import argparse
import asyncio
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from runtime import logs
from runtime.settings import Settings
from schemas.errors import SluiceError
from tests.chaos.fault_plan import Plan
from tests.chaos.log_checks import PRODUCERS_LOG
from tests.chaos.report import ChaosReport, check_table, fault_table, requests_line
from tests.chaos.run import run_chaos
from tests.chaos.setup import Show
from tests.kit.interruption import INTERRUPTED, exit_on_signals
from tests.kit.servers import chaos_servers

_TABLE_WIDTH = 130
_MIN_SECONDS = 5


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=7, help="same seed, same faults and traffic")
    parser.add_argument(
        "--apart",
        action="store_true",
        help="inject one fault of each kind, each after the recovery from the one before",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        help="multiply the 15 seconds allowed for recovery, on a busy machine",
    )
    parser.add_argument("--json", action="store_true", help="print only JSON and the last line")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for the logs")
    options = parser.parse_args(arguments)
    if not _MIN_SECONDS <= options.seconds < math.inf:
        parser.error(f"--seconds must be a number of at least {_MIN_SECONDS}")
    if options.keep is not None and options.keep.exists():
        parser.error(f"--keep must name a new folder, but {options.keep} exists")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the faults and checks; return 1 if any check was violated, otherwise 0."""
    options = _options(arguments)
    console = Console(stderr=True)
    try:
        with exit_on_signals(), _folder() as folder, _logging_to(folder / "logs" / PRODUCERS_LOG):
            with chaos_servers(folder / "servers") as servers, _bar(console, options) as show:
                plan = Plan(options.seed, options.seconds, options.apart, options.patience)
                report = asyncio.run(run_chaos(plan, servers, folder, show))
            _keep(folder, options.keep, report, console)
    except KeyboardInterrupt:
        console.print("Interrupted. All processes and files were removed. Nothing was checked.")
        return INTERRUPTED
    except SluiceError as error:
        console.print(str(error), markup=False, highlight=False)
        return error.exit_code
    _print(report, as_json=options.json)
    return report.exit_status()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sluice-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # The servers' account needs access to its files.
        folder.chmod(0o711)
        (folder / "logs").mkdir()
        yield folder


@contextmanager
def _logging_to(log: Path) -> Iterator[None]:
    """Send the log of this process's producers to a file instead of the terminal."""
    with log.open("wb") as file:
        settings = Settings().model_copy(update={"log_level": "info", "log_format": "json"})
        logs.configure(settings, descriptor=file.fileno())
        yield


@contextmanager
def _bar(console: Console, options: argparse.Namespace) -> Iterator[Show]:
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=options.json or not console.is_terminal,
    ) as progress:
        task = progress.add_task("starting servers", total=None)

        def show(what: str, done: float, of: float) -> None:
            progress.update(task, description=what, completed=done, total=of or None)

        yield show


def _keep(folder: Path, wanted: Path | None, report: ChaosReport, console: Console) -> None:
    """Keep the logs in the requested folder, or in a temporary one if there is a violation."""
    if wanted is None and not report.violations:
        return
    kept = wanted or Path(tempfile.mkdtemp(prefix="sluice-chaos-logs-"))
    shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)
    for server in ("postgres", "valkey"):
        shutil.copy(folder / "servers" / f"{server}.log", kept)
    (kept / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    console.print(f"The logs are in {kept}", soft_wrap=True)


def _print(report: ChaosReport, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=_TABLE_WIDTH)
        console.print(fault_table(report))
        console.print(check_table(report))
        work = report.work
        console.print(
            f"{work['opt_outs']} opt-outs by recipients; {work['paused']} jobs paused,"
            f" {work['cancelled']} cancelled; {work['resubmitted']} calls repeated after a lost"
            f" answer, {work['answered_twice']} of which had been stored;"
            f" {work['groups_ended']} groups ended; {work['deliveries']} webhook deliveries."
        )
        console.print(requests_line(report))
    print(report.last_line())


if __name__ == "__main__":
    sys.exit(main())
