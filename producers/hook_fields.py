"""Read one post of a hook from its fields: a form or JSON.

The sender chooses the names of fields, and may send more than is needed. The reader takes what an
opt-out needs from any plausible field, and ignores the rest. Nothing else makes the opt-out
invalid: it is ignored, and reported as adjusted.
"""

from collections.abc import Mapping
from time import monotonic
from typing import NamedTuple

from producers.field_names import Meaning, field_meaning, is_weak_address_field
from producers.hook_addresses import AddressCandidate, parse_addresses, resolve_candidates
from producers.hook_json import Field
from producers.invalid_request import is_storable, shorten
from schemas.addresses import InvalidAddress, NormalizedAddress
from schemas.errors import InvalidRequest, ReadingTimeout
from schemas.statuses import RECIPIENT_KINDS, Status

_MAX_ADDRESSES = 200
MAX_NAMED_FIELDS = 20
"""Fields that a response names."""

_MAX_TOLD_FIELDS = 3
"""Fields that one sentence names."""

_MAX_KIND = 200

_UNREADABLE = "\N{REPLACEMENT CHARACTER}"

_KIND_NOT_KNOWN = ("kind", f"it is not known, and counts as {Status.MANUAL.value}")

_KINDS = {kind.value.replace("_", ""): kind for kind in RECIPIENT_KINDS}


class Adjustment(NamedTuple):
    """A part of the post that was ignored or changed, and why."""

    what: str
    message: str

    def __str__(self) -> str:
        return f"{self.what}: {self.message}"


READ_SECONDS = 10.0
"""How long reading a request may take, while other large ones wait."""


class ReadingDeadline:
    """The deadline for reading a request, counted from now."""

    def __init__(self) -> None:
        self._until = monotonic() + READ_SECONDS

    def require_time_left(self) -> None:
        """Raise ReadingTimeout after the deadline."""
        if monotonic() > self._until:
            raise ReadingTimeout(
                f"The request takes more than {READ_SECONDS:.0f} seconds to read. Nothing was"
                " stored. Send fewer events at a time, or send it again later."
            )


class HookPost(NamedTuple):
    """One recipient's opt-out. `rejected_fields` names address fields without a valid address."""

    candidates: list[AddressCandidate]
    kind: Status
    event_id: str | None
    texts: dict[Meaning, str]
    adjusted: list[Adjustment]
    rejected_fields: list[str]

    @property
    def normalized(self) -> list[NormalizedAddress]:
        """The addresses, for an account that knows none of their readings."""
        return resolve_candidates(self.candidates)

    @property
    def addresses(self) -> list[str]:
        """The addresses as received."""
        return [each.address for each in self.normalized]

    @property
    def match_keys(self) -> list[str]:
        """The sorted match keys of the addresses."""
        return sorted(each.match_key for each in self.normalized)

    @property
    def ambiguous_match_keys(self) -> list[str]:
        """The match keys to look up in the account; none if every address is unambiguous."""
        if all(len(each.readings) == 1 for each in self.candidates):
            return []
        return list({key for each in self.candidates for _, key in each.readings})

    def for_account(self, known: Mapping[str, bool]) -> "HookPost":
        """Return the post as read by an account with these keys, each held by a contact or not."""
        keys = self.ambiguous_match_keys
        if not keys:
            return self
        # `known` is of the whole request, which may have thousands of posts.
        meant = resolve_candidates(
            self.candidates, {key: known[key] for key in keys if key in known}
        )
        return self._replace(candidates=[AddressCandidate(each, (each,)) for each in meant])


def to_storable_text(text: str) -> str:
    """Replace each character that Postgres cannot store."""
    if is_storable(text):
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", _UNREADABLE)


class OptOutReader:
    """Reads one person's opt-out, field by field."""

    def __init__(self) -> None:
        self.rejected_fields: list[str] = []
        self.kinds: list[Status] = []
        self.texts: dict[Meaning, str] = {}
        self._candidates: dict[tuple[NormalizedAddress, ...], AddressCandidate] = {}
        self._seen: set[Field] = set()
        self._names_address = False
        self._weak: dict[Field, None] = {}
        self.adjusted: dict[tuple[str, str], Adjustment] = {}
        self.unknown: list[str] = []
        self._why: InvalidAddress | None = None

    def take(self, field: Field) -> None:
        """Read the field; raises InvalidRequest for more addresses than one person has."""
        if not field.text.strip():
            return
        match field_meaning(field.name):
            case None:
                if field.name and "@" in field.text and len(self.unknown) < MAX_NAMED_FIELDS:
                    self.unknown.append(_shown(field.name))
            case Meaning.ADDRESS if is_weak_address_field(field.name):
                # One more than the limit, so that `settle` raises.
                if len(self._weak) <= _MAX_ADDRESSES:
                    self._weak.setdefault(field)
            case Meaning.ADDRESS:
                self._take_address(field)
            case Meaning.KIND:
                self._take_kind(field.text)
            case meaning:
                self.texts.setdefault(meaning, field.text.strip())

    def _take_address(self, field: Field) -> None:
        if field in self._seen:
            return
        self._seen.add(field)
        self._names_address |= "@" in field.text or "%40" in field.text
        self._require_one_person()
        try:
            read = parse_addresses(field.text.strip(), blank_is_plus=field.blank_is_plus)
        except InvalidAddress as error:
            self._why = error
            self._reject(field)
            return
        for candidate in read.candidates:
            self._candidates.setdefault(candidate.readings, candidate)
        self._require_one_person()
        if not read.is_whole:
            self._reject(field)
        if read.adjustment is not None:
            self._adjust("address", read.adjustment)

    def _require_one_person(self) -> None:
        if max(len(self._seen), len(self._candidates)) > _MAX_ADDRESSES:
            raise InvalidRequest(
                f"One opt-out has more than {_MAX_ADDRESSES} addresses, which are not one"
                " person's. Nothing was stored. Send one opt-out for each person."
            )

    def _reject(self, field: Field) -> None:
        if len(self.rejected_fields) < MAX_NAMED_FIELDS:
            self.rejected_fields.append(_shown(field.name))

    def _take_kind(self, text: str) -> None:
        plain = "".join(filter(str.isalpha, text.strip()[:_MAX_KIND].casefold()))
        if (kind := _KINDS.get(plain)) is not None:
            self.kinds.append(kind)
        else:
            self._adjust(*_KIND_NOT_KNOWN)

    def _adjust(self, what: str, message: str) -> None:
        self.adjusted.setdefault((what, message), Adjustment(what, message))

    def settle(self, outer: "OptOutReader | None" = None) -> None:
        """Read the weak fields after all others, or report them as ignored.

        Then take what the `outer` event says, unless this one says it itself. Raises InvalidRequest
        for more addresses than one person has.
        """
        weak, self._weak = list(self._weak), {}
        if weak and self._names_address:
            # Even if that one is invalid: the list's own address does not replace it.
            names = ", ".join(_shown(field.name) for field in weak[:_MAX_TOLD_FIELDS])
            left = len(weak) - _MAX_TOLD_FIELDS
            more = f" and {left} more" if left > 0 else ""
            were = "was" if len(weak) == 1 else "were"
            self._adjust("address", f"another field has it, so that {names}{more} {were} not read")
        else:
            for field in weak:
                self._take_address(field)
        if outer is not None:
            self._inherit(outer)

    def _inherit(self, outer: "OptOutReader") -> None:
        self.kinds = self.kinds or outer.kinds
        if (told := outer.adjusted.get(_KIND_NOT_KNOWN)) is not None:
            self.adjusted.setdefault(_KIND_NOT_KNOWN, told)
        if not outer.has_address:
            # No other event reports them.
            self.rejected_fields = [*outer.rejected_fields, *self.rejected_fields][
                :MAX_NAMED_FIELDS
            ]
        around = {each: text for each, text in outer.texts.items() if each is not Meaning.EVENT_ID}
        self.texts = around | self.texts

    @property
    def has_address(self) -> bool:
        """Whether there is a recipient's address; call `settle` first."""
        return bool(self._candidates)

    def post(self) -> HookPost:
        """Return the opt-out; raises InvalidRequest without an address. Call `settle` first."""
        if not self.has_address:
            raise self._no_address()
        if self.kinds:
            self.adjusted.pop(_KIND_NOT_KNOWN, None)
        return HookPost(
            list(self._candidates.values()),
            max(self.kinds, key=lambda kind: kind.rank, default=Status.MANUAL),
            self.texts.get(Meaning.EVENT_ID),
            self.texts,
            list(self.adjusted.values()),
            self.rejected_fields,
        )

    def _no_address(self) -> InvalidRequest:
        if self._why is not None:
            return InvalidRequest(
                f"address: This is not an email address. {self._why} Nothing was stored. Send an"
                " address that mail can reach."
            )
        named = ""
        if self.unknown:
            named = (
                f" There are addresses in {', '.join(self.unknown[:3])}, but a field of that name"
                " may be another person's."
            )
        return InvalidRequest(
            f"The opt-out has no recipient's address.{named} Nothing was stored. Send it in a field"
            " named email, and further ones of the same person in email2 and email3."
        )


def _shown(name: str) -> str:
    return shorten(to_storable_text(name))
