"""Imports, each into a database with nothing in it: by Sluice, and as an administrator does it."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosql

from bench.contact_csv import write_contacts
from bench.contenders import Contender, no_show
from bench.effects import effect_of, require_same
from bench.measuring import Stand, measure_import
from bench.templates import LIST, Copy, Templates, checkpoint

_SEED = 20_240_501
_WORK_MEM = "set local work_mem = '256MB'"
_administrator: Any = aiosql.from_path(
    Path(__file__).parent / "competitors" / "administrator" / "import.sql",
    "asyncpg",
    mandatory_parameters=False,
)

Import = Callable[[Copy, Path], Awaitable[tuple[dict[str, Any], int]]]
"""Imports a file; gives the figures, and the job's id."""


async def imports(
    templates: Templates,
    fleet: Contender,
    folder: Path,
    *,
    rows: int,
    times: int,
) -> dict[str, Any]:
    """The figures of each import of a file of so many rows, with two addresses in each.

    Sluice and the administrator take turns. Raises EffectsDiffer where they did not do the same.
    """
    file = folder / "contacts.csv"
    size = write_contacts(file, rows, seed=_SEED)
    template = await templates.of(0)
    ways: dict[str, Import] = {
        "runs": _by_sluice(fleet, folder),
        "administrator": _by_administrator,
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(times):
        effects = []
        for name, way in ways.items():
            async with templates.copy(template) as copy:
                await checkpoint(copy.pool)
                figures, job_id = await way(copy, file)
                rate = round(rows / figures["total_seconds"])
                runs[name].append(figures | {"rows_per_second": rate})
                async with copy.pool.acquire() as connection:
                    effects.append(
                        await effect_of(
                            connection, name, copy.template.account_id, [("import", job_id)]
                        )
                    )
        require_same(*effects)
    file.unlink()
    return {"rows": rows, "file_mb": round(size / 1e6, 1), **runs}


def _by_sluice(fleet: Contender, folder: Path) -> Import:
    async def run(copy: Copy, file: Path) -> tuple[dict[str, Any], int]:
        async with fleet.on(copy, folder) as running:
            stand = Stand(copy.pool, copy.settings, running.workers, embedded=True)
            return await measure_import(stand, LIST, str(file), no_show)

    return run


async def _by_administrator(copy: Copy, file: Path) -> tuple[dict[str, Any], int]:
    account = {"account_id": copy.template.account_id}
    async with copy.pool.acquire() as connection:
        began = time.perf_counter()
        async with connection.transaction():
            await connection.execute(_WORK_MEM)
            await _administrator.make_staging(connection)
            await connection.copy_to_table("staging", source=file, format="csv", header=True)
            await _administrator.analyze_staging(connection)
            job_id = await _administrator.insert_job(connection, **account)
            await _administrator.number_rows(connection)
            await _administrator.insert_contacts(connection, **account, job_id=job_id)
            await _administrator.list_held(connection)
            await _administrator.analyze_held(connection)
            for statement in ("insert_addresses", "insert_links", "insert_results"):
                await getattr(_administrator, statement)(connection, **account, job_id=job_id)
        return {"total_seconds": round(time.perf_counter() - began, 2)}, job_id
