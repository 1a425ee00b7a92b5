"""What happens to a chunk that failed."""

import asyncpg
import pytest

from db import chunks, job_progress
from db.time_limits import LOCK_MS, STATEMENT_MS
from engine.chunk_runner import ChunkFailed, ChunkRunner
from engine.retry_policy import MAX_ATTEMPTS, FailureHandler
from runtime.settings import Settings
from tests.kit.factories import key_of, make_account
from tests.kit.model_comparison import LIMIT
from tests.kit.sample_account import REFUSED_BY_POSTGRES, AccountDriver


@pytest.mark.parametrize("stop", [AccountDriver.pause, AccountDriver.cancel])
async def test_no_contact_is_rejected_after_the_job_was_stopped(
    pool: asyncpg.Pool, settings: Settings, stop
) -> None:
    """Promise 5: a contact fails for the last time, and the job is paused or cancelled before the
    failure is handled. The contact is then not rejected.
    """
    await pool.execute(REFUSED_BY_POSTGRES)
    await make_account(pool, "stopped")
    driver = AccountDriver(pool, settings, "stopped")
    import_id = await driver.run("import", [["poison@example.com"]], permission=False)
    job_id = await driver.submit("opt_in", await driver.contacts_of(import_id), [1])
    await driver.work(job_id, chunks=MAX_ATTEMPTS - 1)
    async with pool.acquire() as connection:
        job = await job_progress.get_job_to_work(connection, await key_of(pool, job_id))
        assert job is not None
        runner = ChunkRunner.for_job(job, role_address_limit=LIMIT, worker="test")
        with pytest.raises(ChunkFailed) as failed:
            await runner.run_next(connection)
        await stop(driver, job_id)
        refused = await FailureHandler(job, "test", 0.0).handle(
            connection, failed.value.chunk, failed.value, is_counted=False
        )
    assert refused is None
    assert await pool.fetchval("select count(*) from results where job_id = $1", job_id) == 0
    chunk = await pool.fetchrow("select state, attempts from job_chunks where job_id = $1", job_id)
    assert tuple(chunk) == ("pending", MAX_ATTEMPTS - 1)


async def test_a_held_lock_does_not_count_as_an_attempt(
    pool: asyncpg.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opt-out waits for an address that a console session has locked. The lock timeout ends the
    wait before the statement timeout, which would count as an attempt. Afterwards the opt-out is
    applied.
    """
    assert LOCK_MS < STATEMENT_MS
    monkeypatch.setattr(chunks, "LOCK_MS", 200)
    await make_account(pool, "locked")
    driver = AccountDriver(pool, settings, "locked")
    import_id = await driver.run("import", [["held@example.com"]], permission=False)
    job_id = await driver.submit("opt_out", await driver.contacts_of(import_id), [1])
    await driver.work(job_id, chunks=0)
    async with pool.acquire() as console, pool.acquire() as connection:
        job = await job_progress.get_job_to_work(connection, await key_of(pool, job_id))
        assert job is not None
        runner = ChunkRunner.for_job(job, role_address_limit=LIMIT, worker="test")
        async with console.transaction():
            await console.execute("select from email_addresses for update")
            with pytest.raises(ChunkFailed) as failed:
                await runner.run_next(connection)
        assert not failed.value.is_chunk_fault
        assert isinstance(failed.value.__cause__, asyncpg.LockNotAvailableError)
        done = await runner.run_next(connection)
    assert done is not None
    assert done.counts.applied == 1
