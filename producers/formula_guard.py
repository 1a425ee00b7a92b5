"""Remove the apostrophe that our own exports put before a formula in a cell.

The database function `without_formula` adds it.
"""

import re

_guards = re.compile(
    r"^'(?='*[\t\r\n])|(?:^|(?<=[;\t\r\n]))'(?='*"
    r'["\u0001-\u0008\u000b\u000c\u000e-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680'
    r"\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff]*"
    r"[-=+@\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20])"
).sub


def strip_formula_guard(cell: str) -> str:
    """Return the cell without the apostrophe before each formula."""
    return _guards("", cell)
