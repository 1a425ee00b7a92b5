"""Read the cells of a status column: Keap's statuses, other systems' names of them, yes and no.

Only the importer claims consent, never a cell: `Opt in: yes` states nothing. An unknown text is
rejected, because it may be an opt-out.
"""

import re
from collections.abc import Callable, Sequence

from producers.column_names import plain_name
from producers.short_text_cache import cache_short_texts
from schemas.statuses import MARKETABLE, OPTED_OUT, Status


class UnknownStatus(ValueError):
    """The cell is not understood."""


_MEANINGS: dict[Status | None, str] = {
    # The recipient said no, as other systems tell of a link.
    Status.MANUAL: "optoutmanual optedoutmanual unsubscribed unsubscribe unsub globallyunsubscribed"
    " abgemeldet baja widerrufen uitgeschreven disiscritto",
    Status.LIST_UNSUBSCRIBE: "listunsubscribed",
    # It is unknown who said no: the account's own word counts least of the opt-outs.
    Status.ADMIN: "optoutadmin optedoutadmin optedout optout notoptedin donotemail donotcontact"
    " donotmail dnc dne notallowed donotallow denied declined withdrawn revoked blocked blacklisted"
    " blocklisted suppressed",
    # The recipient complained.
    Status.FEEDBACK: "feedbackloop complained complaint complainer spamcomplaint markedasspam"
    " reportedspam abuse",
    # Mail does not arrive.
    Status.HARD_BOUNCE: "bounced hardbounced cleaned hard undeliverable",
    Status.BOUNCE: "softbounce softbounced soft",
    Status.INVALID: "invalidemail",
    # No permission is known.
    Status.NON_MARKETABLE: "unconfirmed notconfirmed pending transactional notsubscribed"
    " nonsubscribed neversubscribed nonmarketing unknown inactive",
    Status.UNENGAGED_NON_MARKETABLE: "unengaged nonmarketableunengaged",
    Status.UNENGAGED_MARKETABLE: "marketableunengaged",
    Status.DOUBLE_OPT_IN: "doubleoptin",
    Status.SINGLE_OPT_IN: "singleoptin",
    # An active subscription states nothing: the consent that another system tells of is not ours.
    None: "subscribed active optedin optin marketable allowed allow granted given",
}
_WORDS: dict[str, Status | None] = {
    **{status.value.replace("_", ""): status for status in Status},
    **{word: status for status, words in _MEANINGS.items() for word in words.split()},
}
"""What other systems and Keap call a status, without case, blanks and punctuation."""

_YES = frozenset(
    (
        *("yes", "y", "true", "t", "1", "x", "on", "checked", "✓", "✔", "☑"),
        *("ja", "j", "wahr", "oui", "o", "vrai", "si", "sí", "sì", "s", "sim", "tak", "ano"),
    )
)
_NO = frozenset(
    (
        *("no", "n", "false", "f", "0", "off", "unchecked", "never", "☐"),
        *("nein", "falsch", "non", "faux", "não", "nao", "nie", "ne", "nee"),
    )
)
_NOTHING = frozenset(
    ("", "-", "\N{EN DASH}", "\N{EM DASH}", "n/a", "none", "null", "nil", "(blank)", "(none)")
)
_is_no_date = re.compile(r"0000-00-00.*|00/00/0000.*").fullmatch
_is_date = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[t ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}(?: .*)?"
    r"|[a-zäé]{3,9}\.? \d{1,2},? \d{4}(?:[ ,].*)?|\d{1,2}\.? [a-zäé]{3,9}\.?,? \d{4}(?:[ ,].*)?"
).fullmatch

# The status that yes (True) and no (False) mean, by column; a missing key means none.
_STATED: dict[str, dict[bool, Status]] = {
    # A recipient unsubscribes by a link.
    "unsubscribed": {True: Status.MANUAL},
    # It is unknown who opted the contact out.
    "opted_out": {True: Status.ADMIN},
    "opted_in": {False: Status.ADMIN},
    # Such a column is about mail that bounced permanently.
    "bounced": {True: Status.HARD_BOUNCE},
    # Complaints reach other systems from the mailbox providers.
    "complained": {True: Status.FEEDBACK},
}


@cache_short_texts(maxsize=4096)
def parse_status(cell: str, column: str) -> Status | None:
    """Return the status that a cell states in a column that means `column`; None if it states none.

    Raises UnknownStatus.
    """
    text = " ".join(cell.split()).casefold()
    if text in _NOTHING or _is_no_date(text):
        # An empty opted_in cell means: no permission.
        return Status.NON_MARKETABLE if column == "opted_in" else None
    if column in _STATED:
        if text in _YES or _is_date(text):
            return _STATED[column].get(True)
        if text in _NO:
            return _STATED[column].get(False)
    word = plain_name(text)
    if word not in _WORDS:
        raise UnknownStatus(cell)
    status = _WORDS[word]
    if status is not None and column in _STATED and status in MARKETABLE:
        return None
    return status


_MAX_PROSE = 1_000
"""In characters; a note of an opt-out is not longer."""

_MAX_SHORT = 30

_opt_out = re.compile(
    r"(?<![^\W_])(?:un[\W_]?sub(?:scri\w*)?|opt(?:ed|s|ing)?[\W_]*outs?"
    r"|(?:do[\W_]*not|don.?t|stop)[\W_]+(?:e[\W_]?mail|mail|contact|send|market)\w*"
    r"|(?:not|never|no[\W_]longer)[\W_]+(?:subscribed|opted[\W_]*in)"
    r"|(?:opt(?:ed)?[\W_]*in|subscribed|consent(?:[\W_]+given)?|permission|newsletter)[\W_]+"
    r"(?:no|false|nein|0|not[\W_]+given|withdrawn|revoked|denied|refused)"
    r"|suppress(?:ion|ed)|bl[ao]c?k[\W_]*list(?:ed)?"
    r"|(?:ab|af)gemeld(?:et)?|abbestellt|widerrufen|uitgeschreven|disiscritt[oaie]"
    r"|d[eé]sabonn\w*|d[eé]sinscrit\w*)(?![^\W_])",
    re.IGNORECASE,
)
_is_short_no = re.compile(
    r"[\W_]*no[\W_]+(?:more[\W_]+)?(?:e[\W_]?mail|mail|contact|market|newsletter)\w*\W*",
    re.IGNORECASE,
).fullmatch
_of_mail = re.compile(
    "unsub|opt(?:ed)?out|donot(?:e?mail|contact)|market|engaged|bounce|spam|complain|subscribed"
    "|optedin|undeliverable|invalidemail|lockdown|cleaned|^dn[ce]$|^baja$"
).search
_SUPPRESSING = frozenset(
    word
    for word, status in _WORDS.items()
    if status is not None and status not in MARKETABLE and _of_mail(word)
)
"""Words of a status that have no other meaning in any column."""


_PARTS = (
    *("sub", "opt", "mail", "contact", "market", "engage", "bounce", "spam", "complain"),
    *("suppress", "list", "deliver", "consent", "permission", "send", "newsletter"),
    *("lockdown", "cleaned", "dnc", "dne", "baja"),
    *("gemeld", "abonn", "scri", "bestellt", "widerruf", "schreven"),
)
"""Every text about suppression has one of these; the search takes a tenth of the time."""


def find_suppressing_cell(cells: Sequence[str]) -> str | None:
    """Return the first cell about an opt-out or undeliverable mail in any column, or None."""
    text = "\n".join(cells).lower()
    for part in _PARTS:
        if part in text:
            fit = (cell for cell in cells if len(cell) <= _MAX_PROSE)
            return next((cell for cell in fit if _means_opt_out(cell, _opt_out.search)), None)
    return None


def is_suppressing(text: str) -> bool:
    """Return whether the whole text, such as a tag, has such a meaning."""
    return len(text) <= _MAX_SHORT and _means_opt_out(text, _opt_out.fullmatch)


def _means_opt_out(text: str, find: Callable[[str], re.Match[str] | None]) -> bool:
    return bool(plain_name(text) in _SUPPRESSING or find(text) or _is_short_no(text))


def strongest(*stated: Status | None) -> Status | None:
    """Return the status with the highest rank; among equals, one that is not marketable."""
    found = (status for status in stated if status is not None)
    return max(found, key=lambda each: (each.rank, each not in MARKETABLE), default=None)


def applies_to_person(status: Status) -> bool:
    """Return whether the status of a contact applies to all its addresses.

    An opt-out or missing permission does; a bounce does not.
    """
    return status in OPTED_OUT or status in _WITHOUT_PERMISSION


_WITHOUT_PERMISSION = {
    Status.NON_MARKETABLE,
    Status.UNENGAGED_NON_MARKETABLE,
    Status.LOCKDOWN,
}
