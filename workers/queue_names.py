"""The names of queues and actors. A message carries only ids; everything else is in Postgres."""

from actions.registry import all_actions

OPT_OUTS = "opt_outs"
STARTS = "starts"
BULK = "bulk"

START = "start"
START_URGENT = "start_urgent"
ADVANCE = "advance"
ADVANCE_URGENT = "advance_urgent"


def is_urgent(action: str) -> bool:
    """Return whether jobs of the action begin before all others; False if it is unknown."""
    known = all_actions().get(action)
    return known is not None and known.urgent
