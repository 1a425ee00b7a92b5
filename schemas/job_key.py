"""The key of a job's row."""

from typing import NamedTuple


class JobKey(NamedTuple):
    """A job's account and id. Every key and statement of a job's data begins with them."""

    account_id: int
    job_id: int
