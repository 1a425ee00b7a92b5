"""Two transactions that make one address, or fill one field of a contact, at the same moment."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from schemas.errors import ConcurrentLink

_MADE_ONCE = {
    "email_addresses_account_id_match_key_key",
    "contact_emails_pkey",
    "contacts_by_external_id",
}


@contextmanager
def made_once() -> Iterator[None]:
    """Raise ConcurrentLink when another transaction has just made what this one makes."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name not in _MADE_ONCE:
            raise
        raise ConcurrentLink(
            "an address or a contact of the chunk was made by another transaction meanwhile"
        ) from error
