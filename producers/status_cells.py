"""What the cells of a status column say: Keap's statuses, what other systems call them, yes and no.

Consent is the importer's claim, never a cell's: `Opt in: yes` states nothing. What is not
understood is refused, since it may be an opt-out.
"""

import re
from collections.abc import Sequence

from producers.short_text_cache import cache_short_texts
from schemas.statuses import FACTS, OPTED_OUT, Status


class UnknownStatus(ValueError):
    """The cell is not understood."""


# Without case, blanks and punctuation. What tells of an active subscription states nothing.
_KEAP: dict[str, Status | None] = {status.value.replace("_", ""): status for status in Status}
_WORDS: dict[str, Status | None] = _KEAP | {
    # Keap's own, as its screens and its API write them.
    "optoutadmin": Status.ADMIN,
    "optoutmanual": Status.MANUAL,
    "optedoutadmin": Status.ADMIN,
    "optedoutmanual": Status.MANUAL,
    "doubleoptin": Status.DOUBLE_OPT_IN,
    "singleoptin": Status.SINGLE_OPT_IN,
    "unengaged": Status.UNENGAGED_NON_MARKETABLE,
    "nonmarketableunengaged": Status.UNENGAGED_NON_MARKETABLE,
    "marketableunengaged": Status.UNENGAGED_MARKETABLE,
    "softbounce": Status.BOUNCE,
    "softbounced": Status.BOUNCE,
    "feedbackloop": Status.FEEDBACK,
    "invalidemail": Status.INVALID,
    # The recipient said no: by a link, as other systems tell it.
    "unsubscribed": Status.MANUAL,
    "unsubscribe": Status.MANUAL,
    "unsub": Status.MANUAL,
    "globallyunsubscribed": Status.MANUAL,
    "abgemeldet": Status.MANUAL,
    "listunsubscribed": Status.LIST_UNSUBSCRIBE,
    # It is not told who said no: the account's own word counts least of the opt-outs.
    "optedout": Status.ADMIN,
    "optout": Status.ADMIN,
    "notoptedin": Status.ADMIN,
    "donotemail": Status.ADMIN,
    "donotcontact": Status.ADMIN,
    "donotmail": Status.ADMIN,
    "dnc": Status.ADMIN,
    "dne": Status.ADMIN,
    "baja": Status.MANUAL,
    "widerrufen": Status.MANUAL,
    "uitgeschreven": Status.MANUAL,
    "disiscritto": Status.MANUAL,
    "notallowed": Status.ADMIN,
    "donotallow": Status.ADMIN,
    "denied": Status.ADMIN,
    "declined": Status.ADMIN,
    "withdrawn": Status.ADMIN,
    "revoked": Status.ADMIN,
    "blocked": Status.ADMIN,
    "blacklisted": Status.ADMIN,
    "blocklisted": Status.ADMIN,
    "suppressed": Status.ADMIN,
    # The recipient complained.
    "complained": Status.FEEDBACK,
    "complaint": Status.FEEDBACK,
    "complainer": Status.FEEDBACK,
    "spamcomplaint": Status.FEEDBACK,
    "markedasspam": Status.FEEDBACK,
    "reportedspam": Status.FEEDBACK,
    "abuse": Status.FEEDBACK,
    # Mail does not arrive.
    "bounced": Status.HARD_BOUNCE,
    "hardbounced": Status.HARD_BOUNCE,
    "cleaned": Status.HARD_BOUNCE,
    "hard": Status.HARD_BOUNCE,
    "soft": Status.BOUNCE,
    "undeliverable": Status.HARD_BOUNCE,
    # No permission is known of.
    "unconfirmed": Status.NON_MARKETABLE,
    "notconfirmed": Status.NON_MARKETABLE,
    "pending": Status.NON_MARKETABLE,
    "transactional": Status.NON_MARKETABLE,
    "notsubscribed": Status.NON_MARKETABLE,
    "nonsubscribed": Status.NON_MARKETABLE,
    "neversubscribed": Status.NON_MARKETABLE,
    "nonmarketing": Status.NON_MARKETABLE,
    "unknown": Status.NON_MARKETABLE,
    "inactive": Status.NON_MARKETABLE,
    # Consent that another system tells of is not ours to take.
    "subscribed": None,
    "active": None,
    "optedin": None,
    "optin": None,
    "marketable": None,
    "allowed": None,
    "allow": None,
    "granted": None,
    "given": None,
}

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

# For each kind of column what yes and no state; of what is left out, nothing is stated.
_STATED: dict[str, dict[bool, Status]] = {
    # A recipient unsubscribes by a link.
    "unsubscribed": {True: Status.MANUAL},
    # Who opted the person out is not told.
    "opted_out": {True: Status.ADMIN},
    "opted_in": {False: Status.ADMIN},
    # That mail bounced for good is told where it bounced once and is sent no more.
    "bounced": {True: Status.HARD_BOUNCE},
    # Complaints reach other systems by the mailbox providers.
    "complained": {True: Status.FEEDBACK},
}


@cache_short_texts(maxsize=4096)
def parse_status(cell: str, column: str) -> Status | None:
    """Return the status that the cell states, in a column of this meaning; None where it states
    none. Raises UnknownStatus.
    """
    text = " ".join(cell.split()).casefold()
    if text in _NOTHING or _is_no_date(text):
        # Who left the box for the consent empty has not given it.
        return Status.NON_MARKETABLE if column == "opted_in" else None
    if column in _STATED:
        if text in _YES or _is_date(text):
            return _STATED[column].get(True)
        if text in _NO:
            return _STATED[column].get(False)
    word = _plain(text)
    if word not in _WORDS:
        raise UnknownStatus(cell)
    status = _WORDS[word]
    if status is not None and column in _STATED and FACTS[status].marketable:
        return None
    return status


_MAX_PROSE = 1_000
"""Longer cells are not looked at: nobody notes an opt-out in so many characters."""

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
    if status is not None and not FACTS[status].marketable and _of_mail(word)
)
"""Words of a status that stand for nothing else, in whichever column."""


_PARTS = (
    *("sub", "opt", "mail", "contact", "market", "engage", "bounce", "spam", "complain"),
    *("suppress", "list", "deliver", "consent", "permission", "send", "newsletter"),
    *("lockdown", "cleaned", "dnc", "dne", "baja"),
    *("gemeld", "abonn", "scri", "bestellt", "widerruf", "schreven"),
)
"""Each text that tells of suppression has one of these: to look for them first takes a tenth of the
time.
"""


def find_suppressing_cell(cells: Sequence[str]) -> str | None:
    """Return the first cell, in any column, that says the person opted out or mail does not arrive.

    Return None if there is no such cell.
    """
    text = "\n".join(cells).lower()
    for part in _PARTS:
        if part in text:
            return next(filter(_tells_of_suppression, cells), None)
    return None


def is_suppressing(text: str) -> bool:
    """Return whether the text, such as a tag, has such a meaning as a whole."""
    if len(text) > _MAX_SHORT:
        return False
    return bool(_plain(text) in _SUPPRESSING or _opt_out.fullmatch(text) or _is_short_no(text))


def _tells_of_suppression(cell: str) -> bool:
    if len(cell) > _MAX_PROSE:
        return False
    return bool(_plain(cell) in _SUPPRESSING or _opt_out.search(cell) or _is_short_no(cell))


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()


def strongest(*stated: Status | None) -> Status | None:
    """Return the status that suppresses most; of those alike, one that is not marketable."""
    found = [status for status in stated if status is not None]
    return max(found, key=_strength) if found else None


def applies_to_person(status: Status) -> bool:
    """Return whether the status, stated of a person, holds for all addresses: an opt-out does, and
    that there is no permission, but not a bounce.
    """
    return status in OPTED_OUT or status in _WITHOUT_PERMISSION


_WITHOUT_PERMISSION = {
    Status.NON_MARKETABLE,
    Status.UNENGAGED_NON_MARKETABLE,
    Status.LOCKDOWN,
}


def _strength(status: Status) -> tuple[int, bool]:
    facts = FACTS[status]
    return facts.rank, not facts.marketable
