"""Long work off the event loop alternates between accounts."""

import asyncio
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.fair_executor import FairExecutor


@given(handed_in=st.lists(st.sampled_from("abc"), max_size=12))
async def test_accounts_take_turns(handed_in):
    """Waiting work alternates between accounts, with each account's in order of arrival."""
    long_work, may_begin, done = FairExecutor(), Event(), []
    first = asyncio.create_task(long_work.run_in_turn("first", may_begin.wait))
    await asyncio.sleep(0)
    pieces = [
        asyncio.create_task(
            long_work.run_in_turn(account, lambda each=(account, n): done.append(each))
        )
        for n, account in enumerate(handed_in)
    ]
    await asyncio.sleep(0)
    may_begin.set()
    await asyncio.gather(first, *pieces)
    of_each = {account: [n for n, a in enumerate(handed_in) if a == account] for account in "abc"}
    assert {a: [n for account, n in done if account == a] for a in "abc"} == of_each
    order = list(dict.fromkeys(handed_in))
    rounds = [
        account
        for turn in range(len(handed_in))
        for account in order
        if turn < len(of_each[account])
    ]
    assert [account for account, _ in done] == rounds


async def test_errors_are_raised_and_cancelled_work_is_skipped():
    """Work of a request that was given up is not done."""
    long_work, may_begin, done = FairExecutor(), Event(), []
    first = asyncio.create_task(long_work.run_in_turn("a", may_begin.wait))
    given_up = asyncio.create_task(long_work.run_in_turn("b", lambda: done.append("b")))
    wrong = asyncio.create_task(long_work.run_in_turn("c", lambda: 1 // 0))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    may_begin.set()
    with pytest.raises(ZeroDivisionError):
        await wrong
    assert await first
    assert done == []
