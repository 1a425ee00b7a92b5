"""Connections are handed out fairly."""

import asyncio

from db.pool import open_pool


async def test_waiters_for_a_connection_are_served_in_order(database_url: str):
    """Of many who come one after the other, at every moment there is, each has the only connection
    before those who came later.
    """
    came: list[int] = []
    served: list[int] = []
    async with await open_pool(database_url, size=1) as pool:

        async def want(number: int) -> None:
            came.append(number)
            async with pool.acquire() as connection:
                served.append(number)
                await connection.fetchval("select 1")

        async with asyncio.TaskGroup() as group:
            for number in range(500):
                group.create_task(want(number))
                await asyncio.sleep(0)
    assert served == came == list(range(500))


async def test_a_connection_given_back_twice_is_one_turn(database_url: str):
    """Whoever gives back what he has given back lets nobody in before his turn."""
    async with await open_pool(database_url, size=1) as pool:
        connection = await pool.acquire()
        await pool.release(connection)
        await pool.release(connection)
        assert pool._turns._value == 1


async def test_a_turn_is_given_back_whatever_happens(database_url: str):
    """A connection that breaks, and a wait that is given up, cost no later caller its turn."""
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
