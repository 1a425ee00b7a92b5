"""Numbers in paths and queries, which are written in one way: in the digits 0 to 9.

Python also reads `+7`, `1_0`, a leading blank, and the digits of all scripts. Then one job would
have any number of paths, and a proxy's rules would know only one.
"""

import re
from typing import Any

from pydantic import BeforeValidator

_is_id = re.compile(r"[1-9][0-9]{0,18}").fullmatch
_is_number = re.compile(r"-?[0-9]+").fullmatch

NO_ID = 0
"""The id of nothing."""


def _parse_id(text: Any) -> Any:
    return text if _is_id(str(text)) else NO_ID


def _parse_number(text: Any) -> Any:
    if isinstance(text, str) and not _is_number(text):
        raise ValueError("Give a whole number.")
    return text


PATH_ID = BeforeValidator(_parse_id)
"""Of an id in a path: what is not one is answered as any other that there is not."""

QUERY_NUMBER = BeforeValidator(_parse_number)
"""Of a number in a query."""
