"""Imports into an empty database: by Sluice, and as an administrator would do it."""

import random
import time
from pathlib import Path

from bench.contenders import SLUICE
from bench.effects import read_effect, require_same
from bench.jobs import wait_for_completion
from bench.session import Environment
from bench.templates import LIST, Copy
from producers.imports import submit_import

_SCRIPT = Path(__file__).parent / "competitors" / "administrator" / "import.sql"
_SEED = 20_240_501
_NAMES = ("Ada", "Amir", "Bea", "Carlos", "Chidi", "Dana", "Elif", "Farid", "Greta", "Hana", "Igor")


async def measure_imports(environment: Environment) -> None:
    """Import a file with two addresses in each row; Sluice and the administrator alternate.

    Raise EffectsDiffer if they did different work.
    """
    rows, samples = environment.sizes.import_rows, environment.samples
    file = environment.folder / "contacts.csv"
    write_contacts(file, rows)
    importers = {SLUICE.key: _import_by_sluice, "administrator": _import_by_administrator}
    for _ in range(environment.sizes.passes):
        effects = []
        for name, import_file in importers.items():
            environment.log(f"import: {name}")
            async with environment.templates.copy(0) as copy:
                seconds, job_id = await import_file(copy, file)
                samples.add(f"imported rows a second/{name}", round(rows / seconds))
                async with copy.pool.acquire() as connection:
                    account_id = copy.template.account_id
                    jobs = [("import", job_id)]
                    effects.append(await read_effect(connection, name, account_id, jobs))
        require_same(*effects)
    file.unlink()


async def _import_by_sluice(copy: Copy, file: Path) -> tuple[float, int]:
    async with SLUICE.start(copy, file.parent):
        began = time.perf_counter()
        submitted = await submit_import(
            copy.pool,
            copy.settings,
            file=file,
            account=LIST,
            permission=False,
            requested_by="the benchmark",
        )
        await wait_for_completion(copy.pool, submitted.job_id)
        return time.perf_counter() - began, submitted.job_id


async def _import_by_administrator(copy: Copy, file: Path) -> tuple[float, int]:
    script = _SCRIPT.read_text(encoding="utf-8")
    script = script.replace(":account_id", str(copy.template.account_id))
    staging, _, rest = script.partition("-- COPY\n")
    async with copy.pool.acquire() as connection:
        began = time.perf_counter()
        async with connection.transaction():
            await connection.execute(staging)
            await connection.copy_to_table("staging", source=file, format="csv", header=True)
            await connection.execute(rest)
        seconds = time.perf_counter() - began
        return seconds, await connection.fetchval("select max(id) from jobs")


def write_contacts(path: Path, contacts: int) -> None:
    """Write a contact CSV with two addresses in each row and no address twice.

    First addresses begin with a random part, so that they are unordered, as in a real list.
    """
    draw = random.Random(_SEED)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("First Name,Last Name,Company,Email,Email Address 2\r\n")
        for n in range(contacts):
            given_name, family_name = draw.choice(_NAMES), draw.choice(_NAMES)
            name, scatter = (
                f"{given_name}.{family_name}.{n}".lower(),
                f"{draw.randrange(16**4):04x}",
            )
            addresses = f"{scatter}.{name}@example.com,{name}.{scatter}@work.example"
            file.write(f"{given_name},{family_name},Company {n % 1000},{addresses}\r\n")
