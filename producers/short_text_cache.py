"""Remembering what short texts mean: names of columns and fields, and what stands in cells.

The texts are sent by anyone, and of any length. A cache that kept the long ones would hold
gigabytes, and they do not come again.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Concatenate, ParamSpec, TypeVar

MAX_CACHED_LENGTH = 200
"""In characters."""

T = TypeVar("T")
P = ParamSpec("P")

_OfText = Callable[Concatenate[str, P], T]


def cache_short_texts(maxsize: int) -> Callable[[_OfText[P, T]], _OfText[P, T]]:
    """Return a decorator for a function of a text: it keeps the answers for short ones."""

    def decorated(function: _OfText[P, T]) -> _OfText[P, T]:
        remembered = lru_cache(maxsize)(function)

        @wraps(function)
        def answer(text: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
            if len(text) > MAX_CACHED_LENGTH:
                return function(text, *args, **kwargs)
            return remembered(text, *args, **kwargs)  # type: ignore[arg-type]  # all hashable

        return answer

    return decorated
