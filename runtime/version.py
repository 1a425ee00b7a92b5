"""Which version of Sluice this is, for logs, `/healthz` and `sluice --version`."""

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

from runtime.settings import Settings

_ROOT = Path(__file__).parents[1]
_NAME = "sluice"


@cache
def version() -> str:
    """Return the version of the package, or of the folder that the program runs from."""
    # The folder comes first: on a dyno nothing is installed, and an installation may be older.
    project = _ROOT / "pyproject.toml"
    if project.is_file():
        described = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if described.get("name") == _NAME:
            return str(described["version"])
    try:
        return metadata.version(_NAME)
    except metadata.PackageNotFoundError:
        return "unknown"


def commit(settings: Settings) -> str | None:
    """Return the commit that runs: the setting, else what the checkout's `.git` says, else None."""
    return settings.commit or _read_checkout_commit(_ROOT)


@cache
def _read_checkout_commit(root: Path) -> str | None:
    try:
        return _read_head(_git_folder(root))
    except (OSError, ValueError):
        return None


def _git_folder(root: Path) -> Path:
    """Return the folder with HEAD; in a worktree, the file `.git` names it."""
    folder = root / ".git"
    if folder.is_file():
        return root / folder.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    return folder


def _read_head(folder: Path) -> str | None:
    head = (folder / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head
    name = head.removeprefix("ref:").strip()
    shared = folder / "commondir"
    if shared.is_file():
        folder /= shared.read_text(encoding="utf-8").strip()
    if (folder / name).is_file():
        return (folder / name).read_text(encoding="utf-8").strip()
    for line in (folder / "packed-refs").read_text(encoding="utf-8").splitlines():
        found, _, ref = line.partition(" ")
        if ref == name:
            return found
    return None
