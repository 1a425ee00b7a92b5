"""What rules, storage and engine share besides results (`schemas/results.py`).

Plain tuples, because a chunk has thousands of them.
"""

from typing import NamedTuple, TypeAlias

from schemas.statuses import Status

Link: TypeAlias = tuple[int, int, int]
"""A contact holds an address in a field: contact id, field (1 to 3), address id."""

Change: TypeAlias = tuple[Status | None, Status, int | None]
"""A new status: from status, to status, and the address that it was propagated from."""


class PairGroup(NamedTuple):
    """The number of selected pairs in the same state, for a forecast.

    `code` is None for an address that is new to the account. `is_first_in_job` says that the job
    meets the address for the first time.
    """

    field: int
    code: int | None
    sibling_opted_out: bool
    is_first_in_job: bool
    rows: int
