"""The names that messages carry. A message only rings a bell: it names a job, and for a job that
is at work the lane and the hop at which the ring counts; everything else is in Postgres.
"""

from actions.registry import all_actions

OPT_OUTS = "opt_outs"
STARTS = "starts"
BULK = "bulk"

SPARE_MESSAGES = 2
"""So many messages more than it has threads a process fetches from a queue. With many it would
hoard what others could do, with none it would wait for Redis after each."""

START = "start"
START_URGENT = "start_urgent"
ADVANCE = "advance"
ADVANCE_URGENT = "advance_urgent"


def is_urgent(action: str) -> bool:
    """Whether jobs of the action begin before all others; an unknown action is not."""
    known = all_actions().get(action)
    return known is not None and known.urgent
