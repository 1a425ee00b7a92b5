"""How many workers the work at hand takes, for platforms that start and stop them by a figure."""

from collections.abc import Sequence
from math import ceil

from db.progress import QueueLoad

CHUNKS_PER_WORKER = 3_000
"""What one `worker` dyno is given to do. With the defaults its two processes do some 25 chunks a
second, so it is two minutes' work; a dyno started for less has hardly begun when all is done."""

SECONDS_PER_WORKER = {"opt_outs": 15.0, "bulk": 300.0}
"""After each so many seconds that the oldest chunk of a queue has waited, one worker more. A large
job's last chunk waits for all of the others, so that in `bulk` some minutes are no sign of need."""


def suggested_workers(loads: Sequence[QueueLoad]) -> int:
    """How many `worker` dynos there should be; 1 where nothing waits.

    The larger of what the backlog takes and what the age of the oldest runnable chunk asks for,
    but never more than there are chunks. More work or more age never gives fewer. What is most and
    least is the platform's to say; 0, where it takes that, too: a job that comes then waits until
    a dyno was started.
    """
    pending = sum(load.pending_chunks for load in loads)
    by_backlog = ceil(pending / CHUNKS_PER_WORKER)
    by_age = 1 + sum(int(load.oldest_seconds / SECONDS_PER_WORKER[load.queue]) for load in loads)
    return max(1, min(pending, max(by_backlog, by_age)))
