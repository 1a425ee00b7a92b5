"""The pool hands out connections fairly."""

import asyncio

from db.pool import open_pool


async def test_waiters_for_a_connection_are_served_in_order(database_url: str):
    """Many tasks ask for the only connection, one after the other. Each gets it before the tasks
    that asked later.
    """
    arrived: list[int] = []
    served: list[int] = []
    async with await open_pool(database_url, size=1) as pool:

        async def use_connection(number: int) -> None:
            arrived.append(number)
            async with pool.acquire() as connection:
                served.append(number)
                await connection.fetchval("select 1")

        async with asyncio.TaskGroup() as group:
            for number in range(500):
                group.create_task(use_connection(number))
                await asyncio.sleep(0)
    assert served == arrived == list(range(500))


async def test_releasing_a_connection_twice_frees_one_turn(database_url: str):
    """Releasing a connection twice does not let a second task in."""
    async with await open_pool(database_url, size=1) as pool:
        connection = await pool.acquire()
        await pool.release(connection)
        await pool.release(connection)
        assert pool._turns._value == 1


async def test_a_turn_is_freed_after_a_failure(database_url: str):
    """A broken connection or a cancelled wait does not cost a later task its turn."""
    async with await open_pool(database_url, size=1) as pool:
        for _ in range(3):
            async with pool.acquire() as connection:
                waiting = asyncio.create_task(pool.fetchval("select 1"))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                connection.terminate()
        assert await asyncio.wait_for(pool.fetchval("select 2"), 20) == 2
        one, two = await asyncio.wait_for(
            asyncio.gather(pool.fetchval("select 1"), pool.fetchval("select 2")), 20
        )
        assert (one, two) == (1, 2)
