"""Reading what our own lists put before a cell so that a spreadsheet does not run it.

What is put there, and before which beginnings, is `without_formula` in the database.
"""

import re

_guarded = re.compile(
    r"'(?='*(?:[\t\r\n]|"
    '["\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]*'
    "[-=+@\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20]))"
).match


def without_guard(cell: str) -> str:
    """Return the cell as it was before an apostrophe was put in front of a formula's beginning."""
    return cell[1:] if _guarded(cell) else cell
