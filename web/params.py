"""Parameters of paths and queries: numbers, and the rest of a path.

Numbers only have the digits 0 to 9. Python also parses `+7`, `1_0`, a leading blank, and the digits
of all scripts. One job would have many paths, of which the rules of a proxy know one.
"""

import re
from typing import Any

from pydantic import BeforeValidator
from starlette.convertors import Convertor, register_url_convertor

_is_id = re.compile(r"[1-9][0-9]{0,18}").fullmatch
_is_number = re.compile(r"-?[0-9]+").fullmatch

NO_ID = 0
"""The id that no row has."""


def _parse_id(text: Any) -> Any:
    return text if _is_id(str(text)) else NO_ID


def _parse_number(text: Any) -> Any:
    if isinstance(text, str) and not _is_number(text):
        raise ValueError("Give a whole number.")
    return text


PATH_ID = BeforeValidator(_parse_id)
"""For an id in a path: any other text is treated as an id that does not exist."""

QUERY_NUMBER = BeforeValidator(_parse_number)
"""For a number in a query."""


class _AnyConvertor(Convertor[str]):
    """Matches also line breaks, which may follow a link in a mail; Starlette's `path` does not."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


ANY_PATH = "any"
"""`{name:any}` in the path of a route: the rest of the path."""

register_url_convertor(ANY_PATH, _AnyConvertor())
