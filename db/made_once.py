"""Two transactions that make one address at the same moment."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from schemas.errors import LinksChanged

_ONE_ADDRESS_A_KEY = "email_addresses_account_id_match_key_key"


@contextmanager
def made_once() -> Iterator[None]:
    """Raises LinksChanged when an address is made that another transaction has just made."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != _ONE_ADDRESS_A_KEY:
            raise
        raise LinksChanged(
            "an address of the chunk was made by another transaction meanwhile"
        ) from error
