"""Imports, each into a database with nothing in it."""

from pathlib import Path
from typing import Any

from bench.contact_csv import write_contacts
from bench.contenders import Contender, no_show
from bench.measuring import Stand, measure_import
from bench.templates import LIST, Templates, checkpoint

_SEED = 20_240_501


async def imports(
    templates: Templates,
    fleet: Contender,
    folder: Path,
    *,
    rows: int,
    times: int,
) -> dict[str, Any]:
    """The figures of each import of a file of so many rows, with two addresses in each."""
    file = folder / "contacts.csv"
    size = write_contacts(file, rows, seed=_SEED)
    template = await templates.of(0)
    runs = []
    for _ in range(times):
        async with templates.copy(template) as copy, fleet.on(copy, folder) as running:
            await checkpoint(copy.pool)
            stand = Stand(copy.pool, copy.settings, running.workers, embedded=True)
            figures, _ = await measure_import(stand, LIST, str(file), no_show)
            runs.append(figures | {"rows_per_second": round(rows / figures["total_seconds"])})
    file.unlink()
    return {"rows": rows, "file_mb": round(size / 1e6, 1), "runs": runs}
