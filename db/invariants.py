"""What must be true of the data, whatever was killed, wiped or delivered twice.

Each invariant is a query of `sql/invariants*.sql` that gives the rows which break it. They only
read and take no locks, so `sluice verify` may run them against a production database.
"""

from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.statuses import MARKETABLE, OPTED_OUT, OWN_RIGHT, Status

_sql = load("invariants")
_SUBJECTS = (_sql, load("invariants_of_results"), load("invariants_of_addresses"))

MAX_EXAMPLES = 5
"""So many of the violating rows are given."""

_SORT_MEMORY = "64MB"


class Invariant(NamedTuple):
    """A claim on all data. `name` is that of its query. Where it is `at_rest_only`, jobs that are
    under way break it without any fault; every other one holds at each moment.
    """

    name: str
    claim: str
    at_rest_only: bool = False


class InvariantViolation(NamedTuple):
    """One row that breaks an invariant. `detail` has ids, statuses and times, and no address."""

    account_id: int | None
    job_id: int | None
    contact_id: int | None
    address_id: int | None
    detail: str


class InvariantResult(NamedTuple):
    """How many rows break an invariant, and the first of them."""

    violations: int
    examples: tuple[InvariantViolation, ...]


INVARIANTS = (
    Invariant("every_job_has_ended", "every job has ended, or is paused", at_rest_only=True),
    Invariant("every_pair_is_accounted_for", "the pairs of a job's chunks are those it selected"),
    Invariant("job_counts_are_those_of_its_chunks", "an ended job counts what its chunks do"),
    Invariant("chunk_counts_are_those_of_its_rows", "a done chunk counts the results it has"),
    Invariant("no_chunk_is_half_done", "only done chunks have results"),
    Invariant("one_result_for_each_pair", "no job decided a pair twice"),
    Invariant(
        "every_selected_address_has_a_result", "every selected address of a done chunk has a result"
    ),
    Invariant(
        "every_ledger_is_unbroken",
        "each change of an address begins where the last one ended, up to its present status",
    ),
    Invariant("no_opt_out_was_reopened", "no change led out of an opt-out"),
    Invariant(
        "no_opt_out_was_lost",
        "every address that was opted out is so still, at least as strongly",
    ),
    Invariant(
        "no_address_is_marketable_beside_an_opt_out",
        "no address is marketable while a sibling's opt-out is propagated to it",
    ),
    Invariant("every_address_counts_its_contacts", "an address counts the contacts that hold it"),
    Invariant(
        "every_repeat_has_the_addresses_of_another",
        "a contact that does not count as a person has the addresses of one that does",
    ),
    Invariant(
        "every_recognized_row_is_its_contacts",
        "a recognized row of an import is about a contact that holds its addresses",
    ),
    Invariant(
        "every_result_names_its_contact",
        "a result names the contact of its item, where the item has one",
    ),
    Invariant(
        "decided_only_while_running",
        "nothing was decided after a pause, a cancel or an end had answered",
    ),
    Invariant("every_job_has_its_actor", "a job says who asked for it, as its submission was kept"),
    Invariant(
        "every_change_of_state_has_its_actor",
        "each pause, resume, cancel and confirmation of a job is kept with who did it",
    ),
    Invariant(
        "activity_stays_within_its_account",
        "what is kept of who did what is of one account only",
    ),
)
"""All of them, in the order in which they are checked."""

_STATUS_RANKS = [(status, False, status.rank) for status in Status] + [
    (status, True, status.propagated_rank)
    for status in Status
    if status.propagated_rank is not None
]


async def check_invariant(
    connection: asyncpg.Connection,
    invariant: Invariant,
    *,
    shared_address_limit: int,
    account_id: int | None = None,
    limit: int = MAX_EXAMPLES,
) -> InvariantResult:
    """Find the rows that violate the invariant now, in one account or in all accounts.

    Return at most `limit` examples. `shared_address_limit` must be the one that the workers use.
    Call it outside a transaction; it opens its own.
    """
    query = next(getattr(sql, invariant.name) for sql in _SUBJECTS if hasattr(sql, invariant.name))
    async with connection.transaction(readonly=True):
        # Millions of results are grouped; with the usual memory most of that would go through disk.
        await _sql.plan_for_all_rows(connection, memory=_SORT_MEMORY)
        rows = [
            row
            async for row in query(
                connection,
                account_id=account_id,
                limit=limit,
                shared_address_limit=shared_address_limit,
                **_vocabulary(),
            )
        ]
    examples = tuple(
        InvariantViolation(*(row[name] for name in InvariantViolation._fields)) for row in rows
    )
    return InvariantResult(rows[0]["violations"] if rows else 0, examples)


def _vocabulary() -> dict[str, Any]:
    """Group the statuses by meaning, so that no query repeats the ranks."""
    statuses: tuple[Status, ...]
    statuses, spread, ranks = zip(*_STATUS_RANKS, strict=True)
    return {
        "marketable": list(MARKETABLE),
        "opted_out": list(OPTED_OUT),
        "own_right": OWN_RIGHT,
        "statuses": list(statuses),
        "spread": list(spread),
        "ranks": list(ranks),
    }
