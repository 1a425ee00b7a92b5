"""Run the processes of the Procfile under honcho, and end all of them in time."""

from collections.abc import Collection, Mapping
from pathlib import Path

from runtime.devservers.extra import PROCFILE_PACKAGES, require_packages
from schemas.errors import SluiceError, error_text

PROCFILE = Path(__file__).parents[2] / "Procfile"

TERMINATE_TIMEOUT_SECONDS = 8.0
"""The time to end after SIGTERM. Workers need a fraction of it to end their chunks."""

_NOT_A_PROCESS = "release"


def run_procfile(
    environment: Mapping[str, str],
    procfile: Path = PROCFILE,
    *,
    excluded: Collection[str] = (),
) -> bool:
    """Run every process of the Procfile until SIGINT, SIGTERM, or one of them ends, but for
    `release` and those that are left out.

    All have ended when this returns: True if they were asked to, False if one ended by itself.
    Also a SIGKILL of this process ends them.
    """
    require_honcho()
    from runtime.devservers.procfile_manager import ProcfileManager  # noqa: PLC0415 - it needs honcho

    manager = ProcfileManager()
    for name, command in _processes(procfile).items():
        if name in excluded:
            continue
        manager.add_process(name, command, env=dict(environment), cwd=str(procfile.parent))
    manager.loop()
    return manager.was_requested


def require_honcho() -> None:
    """Raise ServerStartError if honcho is not installed."""
    require_packages(PROCFILE_PACKAGES, "run the lines of the Procfile yourself")


def _processes(procfile: Path) -> dict[str, str]:
    from honcho.environ import parse_procfile  # noqa: PLC0415 - see require_honcho

    try:
        processes = parse_procfile(procfile.read_text(encoding="utf-8")).processes
    except OSError as error:
        raise SluiceError(
            f"The Procfile cannot be read: {error_text(error)}. Nothing was started. Run this from"
            " a checkout of the project, or start `python -m workers` yourself."
        ) from error
    return {name: command for name, command in processes.items() if name != _NOT_A_PROCESS}
