"""The service's own invariants, checked as `sluice verify` checks them."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import asyncpg

from chaos.contact_lists import LIMIT
from chaos.records import Violation


async def check_invariants(connection: asyncpg.Connection) -> tuple[list[str], list[Violation]]:
    """The names of what was checked, and what was found to be broken."""
    if find_spec("db.invariants") is None:
        return [], []
    invariants: Any = import_module("db.invariants")
    names, found = [], []
    for invariant in invariants.INVARIANTS:
        names.append(invariant.name)
        broken = await invariants.check(connection, invariant, shared_address_limit=LIMIT)
        found += [Violation(invariant.name, str(example)) for example in broken.examples]
        if broken.violations > len(broken.examples):
            more = broken.violations - len(broken.examples)
            found.append(Violation(invariant.name, f"and {more} more"))
    return names, found
