"""Connections are handed out fairly."""

import asyncio

from db.pool import open_pool


async def test_nobody_overtakes_those_who_wait_for_a_connection(database_url: str):
    """Of many who want the few connections again and again, none is ever further ahead of
    another than there are connections.
    """
    turns = [0] * 12
    apart = []
    async with await open_pool(database_url, size=2) as pool:

        async def want(number: int) -> None:
            for _ in range(20):
                async with pool.acquire() as connection:
                    await connection.fetchval("select 1")
                    turns[number] += 1
                    apart.append(max(turns) - min(turns))

        await asyncio.gather(*map(want, range(len(turns))))
    assert turns == [20] * 12
    assert max(apart) <= 2


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
