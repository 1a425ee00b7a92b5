"""The worker processes of the acceptance tests are those of the storm (`make chaos`)."""

import shutil
from pathlib import Path

from chaos.worker_group import ROOT, WorkerGroup

__all__ = ["ROOMS", "ROOT", "WorkerGroup", "code_with"]

ROOMS = ("schemas", "actions", "db", "runtime", "workers", "producers")


def code_with(action: str, text: str, folder: Path) -> Path:
    """A copy of the code in `folder`, with a file more: the action of that name."""
    code = folder / "code"
    for room in ROOMS:
        shutil.copytree(ROOT / room, code / room, ignore=shutil.ignore_patterns("__pycache__"))
    (code / "actions" / f"{action}.py").write_text(text)
    return code
