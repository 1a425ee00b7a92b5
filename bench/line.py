"""A line of the table of goals and figures."""

from typing import NamedTuple

NOT_MEASURED = "not measured"
NOT_YET = "not measured yet"


class Line(NamedTuple):
    """One line of the table. `ok` is None where there is no goal, or no figure; `key` names the
    line whatever was measured.
    """

    key: str
    what: str
    goal: str
    measured: str
    ok: bool | None
