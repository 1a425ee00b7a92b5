"""The text encodings that a request may name."""

import codecs
import re

# Python also has encodings that are not of text (base64, zlib) or have other purposes (idna,
# punycode, unicode_escape); some of these take a second per 100 KB.
_is_text = re.compile(
    r"ascii|utf-8(-sig)?|utf-(16|32)(-[bl]e)?|iso8859-\d+|iso2022_\w+|cp\d+|koi8-\w|mac-\w+"
    r"|big5\w*|gb\w+|euc_\w+|shift_jis\w*|johab|kz1048|ptcp154|tis-620|hp-roman8|hz"
).fullmatch


def find_charset(name: str) -> str | None:
    """Return Python's name of the encoding; None if it is not one of text."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return found if _is_text(found) else None
