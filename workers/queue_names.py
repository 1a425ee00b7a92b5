"""The names that messages carry. A message only rings a bell: it names a job, and for a job that
is at work the lane and the token at which the ring counts; everything else is in Postgres.
"""

from actions.registry import all_actions

OPT_OUTS = "opt_outs"
STARTS = "starts"
BULK = "bulk"

START = "start"
START_URGENT = "start_urgent"
ADVANCE = "advance"
ADVANCE_URGENT = "advance_urgent"


def is_urgent(action: str) -> bool:
    """Return whether jobs of the action begin before all others; an unknown action is not."""
    known = all_actions().get(action)
    return known is not None and known.urgent
