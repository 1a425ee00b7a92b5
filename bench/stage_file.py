"""`python -m bench.stage_file FILE ACCOUNT`: one import, in a process whose memory is watched.

Its last line of output is the job's id.
"""

import asyncio
import sys
from pathlib import Path

from db.pool import open_pool
from producers.imports import submit_import
from runtime import logs
from runtime.settings import Settings


async def _stage(file: Path, account: str) -> int:
    settings = Settings()
    logs.configure(settings)
    assert settings.database_url is not None
    async with await open_pool(settings.database_url, size=1) as pool:
        submitted = await submit_import(
            pool,
            settings,
            file=file,
            account=account,
            permission=False,
            requested_by="the benchmark",
        )
    return submitted.job_id


if __name__ == "__main__":
    print(asyncio.run(_stage(Path(sys.argv[1]), sys.argv[2])))
