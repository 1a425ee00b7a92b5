"""The worker processes of the acceptance tests are those of the storm (`make chaos`)."""

from pathlib import Path

from chaos.code_copy import copy_code
from chaos.worker_group import ROOT, WorkerGroup

__all__ = ["ROOT", "WorkerGroup", "code_with"]


def code_with(action: str, text: str, folder: Path) -> Path:
    """A copy of the code in `folder`, with a file more: the action of that name."""
    code = copy_code(folder / "code")
    (code / "actions" / f"{action}.py").write_text(text)
    return code
