"""Cache the meanings of short texts: names of columns and fields, and contents of cells.

The texts come from outside and may be long. A cache of long ones would need gigabytes, and they do
not recur.
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
    """Return a decorator for a function of a text: it caches the results for short ones."""

    def decorated(function: _OfText[P, T]) -> _OfText[P, T]:
        remembered = lru_cache(maxsize)(function)

        @wraps(function)
        def answer(text: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
            if len(text) > MAX_CACHED_LENGTH:
                return function(text, *args, **kwargs)
            return remembered(text, *args, **kwargs)  # type: ignore[arg-type]  # all hashable

        return answer

    return decorated
