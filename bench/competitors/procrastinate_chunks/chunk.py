"""A chunk in one transaction of a few statements, each for the whole chunk."""

from pathlib import Path
from typing import LiteralString, cast

from psycopg import AsyncConnection

from bench.competitors.jobs import Job
from bench.competitors.rules import ROLE_ADDRESS_LIMIT


def _sql(name: str) -> LiteralString:
    return cast("LiteralString", Path(__file__).with_name(f"{name}.sql").read_text())


_STATEMENTS = {
    "opt_in": [_sql("lock_opt_in"), _sql("opt_in")],
    "opt_out": [_sql("lock_opt_out"), _sql("opt_out"), _sql("propagate")],
}


async def work(
    connection: AsyncConnection, job: Job, chunk_no: int, contact_ids: list[int]
) -> None:
    """Do the chunk; each statement sees what earlier ones have locked or written."""
    arguments = {
        "account_id": job.account_id,
        "job_id": job.job_id,
        "fields": job.fields,
        "chunk_no": chunk_no,
        "contact_ids": contact_ids,
        "role_address_limit": ROLE_ADDRESS_LIMIT,
    }
    async with connection.transaction():
        for statement in _STATEMENTS[job.action]:
            await connection.execute(statement, arguments)
