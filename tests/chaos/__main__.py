"""`python -m tests.chaos`: a storm of faults, and what must hold afterwards."""

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
_LEAST_SECONDS = 5


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the storm rages")
    parser.add_argument("--seed", type=int, default=7, help="the same seed gives the same storm")
    parser.add_argument(
        "--apart",
        action="store_true",
        help="one fault of each kind, each when the one before was made good",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        help="how many times 15 seconds a fault may take to be made good, on a busy machine",
    )
    parser.add_argument("--json", action="store_true", help="print the JSON and the last line only")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the logs there, always")
    options = parser.parse_args(arguments)
    if not _LEAST_SECONDS <= options.seconds < math.inf:
        parser.error(f"--seconds has to be a number, {_LEAST_SECONDS} or more")
    if options.keep is not None and options.keep.exists():
        parser.error(f"--keep needs a folder that does not exist yet, and {options.keep} does")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the storm; gives the exit status: 1 where anything was violated."""
    options = _options(arguments)
    console = Console(stderr=True)
    try:
        with exit_on_signals(), _folder() as folder, _logging_to(folder / "logs" / PRODUCERS_LOG):
            with chaos_servers(folder / "servers") as servers, _bar(console, options) as show:
                plan = Plan(options.seed, options.seconds, options.apart, options.patience)
                report = asyncio.run(run_chaos(plan, servers, folder, show))
            _keep(folder, options.keep, report, console)
    except KeyboardInterrupt:
        console.print("Interrupted; everything was stopped and removed, and nothing was checked.")
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
        # The servers' own account has to get through to its files.
        folder.chmod(0o711)
        (folder / "logs").mkdir()
        yield folder


@contextmanager
def _logging_to(log: Path) -> Iterator[None]:
    """Send what the producers in this process log to a file; it would fill the terminal."""
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
    """Keep the logs where they were asked for, or, after a violation, in a folder of their own."""
    if wanted is None and not report.violations:
        return
    kept = wanted or Path(tempfile.mkdtemp(prefix="sluice-chaos-logs-"))
    shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)
    for server in ("postgres", "valkey"):
        shutil.copy(folder / "servers" / f"{server}.log", kept)
    (kept / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    console.print(f"The logs are kept in {kept}", soft_wrap=True)


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
            f"{work['opt_outs']} recipients' own opt-outs; {work['paused']} jobs paused,"
            f" {work['cancelled']} cancelled; {work['resubmitted']} requests were sent again since"
            f" their answer was lost, of which {work['answered_twice']} had been stored;"
            f" {work['groups_ended']} ends of groups; {work['notices']} completion notices."
        )
        console.print(requests_line(report))
    print(report.last_line())


if __name__ == "__main__":
    sys.exit(main())
