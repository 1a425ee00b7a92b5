"""Check invariants: they hold whatever process was killed, and whatever message was lost.

Each invariant is a query of `sql/invariants*.sql` that returns its violations. The queries only
read and take no locks, so `sluice verify` may run them against a production database.
"""

from typing import NamedTuple

import asyncpg

from db.queries import load
from schemas.statuses import MARKETABLE, OPTED_OUT, OWN_RIGHT, Status

_planner_sql = load("forecasting")
_SUBJECTS = tuple(
    load(name) for name in ("invariants", "invariants_of_results", "invariants_of_addresses")
)

MAX_EXAMPLES = 5
"""How many violations of an invariant are returned."""

_SORT_MEMORY = "64MB"


class Invariant(NamedTuple):
    """A claim about the data; `name` is that of its query.

    It holds at every moment, or, if `at_rest_only`, while no job is under way.
    """

    name: str
    claim: str
    at_rest_only: bool = False


class InvariantViolation(NamedTuple):
    """A row that breaks an invariant. `detail` has ids, statuses and times, and no address."""

    account_id: int | None
    job_id: int | None
    contact_id: int | None
    address_id: int | None
    detail: str


class InvariantResult(NamedTuple):
    """The number of an invariant's violations, and the first of them."""

    violations: int
    examples: tuple[InvariantViolation, ...]


_CLAIMS = {
    "every_job_has_ended": "every job has ended, or is paused",
    "every_pair_is_accounted_for": "a job's chunks have as many pairs as it selected",
    "job_counts_are_those_of_its_chunks": "an ended job's counts are the sums over its chunks",
    "chunk_counts_are_those_of_its_rows": "a done chunk's counts are those of its results",
    "no_chunk_is_half_done": "only done chunks have results",
    "one_result_for_each_pair": "no job decided a pair twice",
    "every_selected_address_has_a_result": "every selected address of a done chunk has a result",
    "every_history_is_unbroken": "an address's changes form an unbroken chain up to its status",
    "no_opt_out_was_reopened": "no change ended an opt-out",
    "no_opt_out_was_lost": "an address that was opted out still is, at no lower rank",
    "no_sibling_of_an_opt_out_is_marketable": "siblings of an opt-out are not marketable",
    "every_address_counts_its_contacts": "an address counts the contacts that hold it",
    "every_repeat_has_the_addresses_of_another": "a repeat has another contact's addresses",
    "every_recognized_row_is_its_contacts": "a recognized row's contact holds its addresses",
    "every_result_names_its_contact": "a result has its item's contact, if there is one",
    "decided_only_while_running": "nothing was decided after a pause, a cancel or the end",
    "every_job_has_its_actor": "a job has the actor that its submission was stored with",
    "every_change_of_state_has_its_actor": "pause, resume, cancel and confirmation have an actor",
    "activity_stays_within_its_account": "a row of activity refers only to its own account",
}

INVARIANTS = tuple(
    Invariant(name, claim, at_rest_only=name == "every_job_has_ended")
    for name, claim in _CLAIMS.items()
)
"""All invariants, in the order in which they are checked."""

_RANKS = {(status, False): status.rank for status in Status} | {
    (status, True): status.propagated_rank
    for status in Status
    if status.propagated_rank is not None
}
"""The rank of each status, by whether it was propagated."""

_VOCABULARY = {
    "marketable": list(MARKETABLE),
    "opted_out": list(OPTED_OUT),
    "own_right": OWN_RIGHT,
    "statuses": [status for status, _ in _RANKS],
    "are_propagated": [is_propagated for _, is_propagated in _RANKS],
    "ranks": list(_RANKS.values()),
}
"""Parameters of the queries, so that none of them repeats the ranks."""


async def avoid_comparing_pairs(connection: asyncpg.Connection) -> None:
    """Let the transaction join tables by hashing, whatever the statistics say.

    A new database has no statistics, and the planner expects a few rows in each table.
    """
    # With the default memory, grouping millions of results would mostly go through the disk.
    await _planner_sql.join_by_hash(connection, memory=_SORT_MEMORY)
    await _planner_sql.avoid_merge_joins(connection)


async def check_invariant(
    connection: asyncpg.Connection,
    invariant: Invariant,
    *,
    role_address_limit: int,
    account_id: int | None = None,
    limit: int = MAX_EXAMPLES,
) -> InvariantResult:
    """Find the present violations of the invariant, in one account or in all accounts.

    Return at most `limit` examples. `role_address_limit` must be the workers'. Call it outside a
    transaction, since it opens its own.
    """
    query = next(getattr(sql, invariant.name) for sql in _SUBJECTS if hasattr(sql, invariant.name))
    async with connection.transaction(readonly=True):
        await avoid_comparing_pairs(connection)
        rows = [
            row
            async for row in query(
                connection,
                account_id=account_id,
                limit=limit,
                role_address_limit=role_address_limit,
                **_VOCABULARY,
            )
        ]
    examples = tuple(
        InvariantViolation(*(row.get(name) for name in InvariantViolation._fields)) for row in rows
    )
    return InvariantResult(rows[0]["violations"] if rows else 0, examples)
