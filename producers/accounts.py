"""Adding an account."""

import asyncpg

from db import jobs
from producers.wrong_input import refuse_unstorable, shortened
from schemas.errors import WrongInput


async def create_account(pool: asyncpg.Pool, name: str) -> int:
    """The id of a new account called `name`; raises WrongInput when it is taken or not plain."""
    refuse_unstorable("The account's name", name)
    try:
        async with pool.acquire() as connection:
            created = await jobs.create_account(connection, name)
    except asyncpg.CheckViolationError:
        raise WrongInput(
            f"{shortened(name)!r} cannot be the name of an account. Use up to 63 lower-case"
            " letters, digits, dots, dashes and underscores, with a letter or digit first."
        ) from None
    if created is None:
        raise WrongInput(f"There is an account {name!r} already. Nothing was changed.")
    return created
