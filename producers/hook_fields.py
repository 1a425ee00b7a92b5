"""What a hook's message says, read from its fields, whatever they came as: a form or JSON.

Who sets a sender up chooses the names, and it may send more than was asked for. So what an opt-out
needs is taken from wherever it plausibly is, the rest is not kept, and nothing that does not matter
for the opt-out refuses it: it is passed over, and told of.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple

from producers.charsets import find_charset
from producers.field_names import Meaning, field_meaning, is_address_list, is_weak_address_field
from producers.hook_addresses import AddressCandidate, parse_addresses, resolve_candidates
from producers.invalid_request import input_too_large, is_storable, shorten
from schemas.addresses import InvalidAddress, NormalizedAddress
from schemas.errors import InvalidRequest, ReadingTimeout
from schemas.json_input import InputTooLarge, Pairs, read_pairs
from schemas.statuses import FACTS, RECIPIENT_KINDS, Status

_MAX_ADDRESSES = 200
MAX_NAMED_FIELDS = 20
"""Fields that are named in an answer; more are left out of it."""

_MAX_LEVELS = 32
"""Deeper in JSON there is no field of a recipient."""

_OWN_LEVELS = 4
"""How deep in an event its address may be, where it is that which makes it one."""

_SEVERAL = 2
_MAX_TOLD_FIELDS = 3
"""Fields that are named in one sentence."""

_MAX_PATH = 300
"""Longer names are cut; none of them means anything."""

_MAX_KIND = 200

_UNREADABLE = "\N{REPLACEMENT CHARACTER}"

_KIND_NOT_KNOWN = ("kind", f"it is not known, and counts as {Status.MANUAL.value}")

_KINDS = {kind.value.replace("_", ""): kind for kind in RECIPIENT_KINDS}


class EventObject:
    """One of several events in JSON, by its identity, and the one that it is in, if any."""

    def __init__(self, given: Pairs, outer: "EventObject | None") -> None:
        self.given = given
        self.outer = outer


class Field(NamedTuple):
    """A field as it came. In a form that is not multipart a blank may have been a plus sign.

    Fields of one of several events have the same `event`.
    """

    name: str
    text: str
    blank_is_plus: bool = False
    event: EventObject | None = None


class Adjustment(NamedTuple):
    """What was passed over or read otherwise than it came, and why."""

    what: str
    message: str

    def __str__(self) -> str:
        return f"{self.what}: {self.message}"


READ_SECONDS = 10.0
"""How long a message may take to read, while other large ones wait for it."""


class ReadingDeadline:
    """The time that there is to read a message, from now on."""

    def __init__(self) -> None:
        self._until = monotonic() + READ_SECONDS

    def require_time_left(self) -> None:
        """Raise ReadingTimeout when it is over."""
        if monotonic() > self._until:
            raise ReadingTimeout(
                f"The message takes more than {READ_SECONDS:.0f} seconds to read. Nothing was"
                " stored. Send fewer events at a time, or the same in a quieter moment."
            )


class HookPost(NamedTuple):
    """One person's opt-out. `refused` are names of fields that hold no address."""

    candidates: list[AddressCandidate]
    kind: Status
    event_id: str | None
    texts: dict[Meaning, str]
    adjusted: list[Adjustment]
    refused: list[str]

    @property
    def identities(self) -> list[NormalizedAddress]:
        """The addresses, for an account that knows none of what they may be."""
        return resolve_candidates(self.candidates)

    @property
    def addresses(self) -> list[str]:
        """The addresses as they came."""
        return [each.address for each in self.identities]

    @property
    def match_keys(self) -> list[str]:
        """The addresses as the account knows them, in one order."""
        return sorted(each.match_key for each in self.identities)

    @property
    def ambiguous_match_keys(self) -> list[str]:
        """What the account is to be asked for: nothing, where no address may be another one."""
        if all(len(each.readings) == 1 for each in self.candidates):
            return []
        return list({key for each in self.candidates for _, key in each.readings})

    def for_account(self, known: Mapping[str, bool]) -> "HookPost":
        """Return it as an account means it that knows these keys, each held by a contact or not."""
        keys = self.ambiguous_match_keys
        if not keys:
            return self
        # Not all of `known`, which is of a message with thousands of these.
        meant = resolve_candidates(
            self.candidates, {key: known[key] for key in keys if key in known}
        )
        return self._replace(candidates=[AddressCandidate(each, (each,)) for each in meant])


def read_post(fields: Iterable[Field]) -> HookPost:
    """Return what the fields say; raises InvalidRequest if they name no recipient's address."""
    time = ReadingDeadline()
    reading = OptOutReader()
    for field in fields:
        time.require_time_left()
        reading.take(field)
    reading.settle()
    return reading.post()


def decode_text(raw: bytes, charset: str = "") -> str:
    """Return the text in UTF-8, or the charset that the sender named. Bytes that are
    neither come out as lone surrogates, which no address has.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode(find_charset(charset) or "utf-8")
    except UnicodeError:
        return raw.decode(errors="surrogateescape")


def read_message(body: bytes, charset: str = "") -> Any:
    """Return the JSON of a body, as `read_pairs` gives it, whatever bytes are in its texts.

    Raises ValueError where it is not JSON, and InvalidRequest where it has too many values.
    """
    encoding = json.detect_encoding(body)
    if encoding.startswith("utf-8"):
        return _read_pairs(decode_text(body.removeprefix(codecs.BOM_UTF8), charset))
    return _read_pairs(body.decode(encoding, "replace"))


def _read_pairs(text: str) -> Any:
    try:
        return read_pairs(text)
    except InputTooLarge as error:
        raise input_too_large("The message", error) from None


def iterate_events(value: Any, path: str = "") -> Iterator[Field]:
    """Yield what `iterate_fields` does, where each of several objects in a list is an event.

    The value itself is such a list, whatever is in its objects, unless it lists the addresses of
    one person; any list inside it is where two or more of its objects have an address. Each event
    begins with an empty field.
    """
    is_list = _objects_in(value) >= _SEVERAL and not is_address_list(path)
    yield from _iterate_events(value, path, None, _MAX_LEVELS, are_events=is_list)


def _iterate_events(
    value: Any, path: str, outer: EventObject | None, levels: int, *, are_events: bool
) -> Iterator[Field]:
    if not isinstance(value, list) or not levels:
        for field in iterate_fields(value, path, levels=levels):
            yield field if outer is None else field._replace(event=outer)
        return
    for name, part in _parts(value):
        within = _within(path, name)
        event = outer
        if are_events and isinstance(part, Pairs):
            event = EventObject(part, outer)
            yield Field("", "", event=event)
        several = _are_events(part, within)
        yield from _iterate_events(part, within, event, levels - 1, are_events=several)


def _are_events(value: Any, path: str) -> bool:
    if _objects_in(value) < _SEVERAL or is_address_list(path):
        return False
    # An object is looked into only so far, since what is deep is looked at from each level above.
    having = (
        True
        for name, part in _parts(value)
        if isinstance(part, Pairs)
        and any(
            "@" in field.text and field_meaning(field.name) is Meaning.ADDRESS
            for field in iterate_fields(part, _within(path, name), levels=_OWN_LEVELS)
        )
    )
    return len(list(islice(having, _SEVERAL))) == _SEVERAL


def _objects_in(value: Any) -> int:
    is_list = isinstance(value, list) and not isinstance(value, Pairs)
    return sum(isinstance(part, Pairs) for part in value) if is_list else 0


def expand_json_fields(fields: Iterable[Field]) -> Iterator[Field]:
    """Yield the fields, and those of the JSON that some of them have for a text."""
    for field in fields:
        value = _json_in(field)
        if value is None:
            yield field
        else:
            for each in iterate_events(value, field.name):
                yield each._replace(blank_is_plus=True) if field.blank_is_plus else each


def _json_in(field: Field) -> Any:
    """Return the object or list; None where there is none, or the text has a meaning as it is."""
    text = field.text.strip()
    if text[:1] + text[-1:] not in {"{}", "[]"}:
        return None
    if field_meaning(field.name) not in {None, Meaning.ADDRESS}:
        return None
    try:
        return _read_pairs(text)
    except ValueError:
        return None


def iterate_fields(value: Any, path: str = "", *, levels: int = _MAX_LEVELS) -> Iterator[Field]:
    """Yield the texts and numbers of JSON as `read_pairs` gives it, each named by its path."""
    if isinstance(value, str):
        yield Field(path, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield Field(path, str(value) if isinstance(value, int) else json.dumps(value))
    elif isinstance(value, list) and levels:
        for name, part in _parts(value):
            yield from iterate_fields(part, _within(path, name), levels=levels - 1)


def _parts(value: list[Any]) -> Iterable[tuple[str, Any]]:
    return value if isinstance(value, Pairs) else ((str(n), x) for n, x in enumerate(value))


def _within(path: str, name: str) -> str:
    # Cut, so that many members do not each repeat a name of a million characters.
    return f"{path}.{name}"[:_MAX_PATH] if path else name[:_MAX_PATH]


def to_storable_text(text: str) -> str:
    """Return the text with a mark for each character that Postgres cannot keep."""
    if is_storable(text):
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", _UNREADABLE)


class OptOutReader:
    """What has been read so far of one person's opt-out."""

    def __init__(self) -> None:
        self.refused: list[str] = []
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
        """Read one field; raises InvalidRequest if there are more addresses than one person has."""
        if not field.text.strip():
            return
        match field_meaning(field.name):
            case None:
                if field.name and "@" in field.text and len(self.unknown) < MAX_NAMED_FIELDS:
                    self.unknown.append(_shown(field.name))
            case Meaning.ADDRESS if is_weak_address_field(field.name):
                # One more than one person has, by which `settle` refuses them.
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
            self._refuse(field)
            return
        for candidate in read.candidates:
            self._candidates.setdefault(candidate.readings, candidate)
        self._require_one_person()
        if not read.is_whole:
            self._refuse(field)
        if read.told is not None:
            self._adjust("address", read.told)

    def _require_one_person(self) -> None:
        if max(len(self._seen), len(self._candidates)) > _MAX_ADDRESSES:
            raise InvalidRequest(
                f"The message has more than {_MAX_ADDRESSES} addresses, which are not one person's."
                " Nothing was stored. Send one message for each person."
            )

    def _refuse(self, field: Field) -> None:
        if len(self.refused) < MAX_NAMED_FIELDS:
            self.refused.append(_shown(field.name))

    def _take_kind(self, text: str) -> None:
        plain = "".join(filter(str.isalpha, text.strip()[:_MAX_KIND].casefold()))
        if (kind := _KINDS.get(plain)) is not None:
            self.kinds.append(kind)
        else:
            self._adjust(*_KIND_NOT_KNOWN)

    def _adjust(self, what: str, message: str) -> None:
        self.adjusted.setdefault((what, message), Adjustment(what, message))

    def inherit(self, outer: "OptOutReader") -> None:
        """Take what stands beside an event: it counts for those that do not say it themselves."""
        self.kinds = self.kinds or outer.kinds
        if (told := outer.adjusted.get(_KIND_NOT_KNOWN)) is not None:
            self.adjusted.setdefault(_KIND_NOT_KNOWN, told)
        if not outer.has_address:
            # Nothing else tells of them.
            self.refused = [*outer.refused, *self.refused][:MAX_NAMED_FIELDS]
        beside = {each: text for each, text in outer.texts.items() if each is not Meaning.EVENT_ID}
        self.texts = beside | self.texts

    def settle(self) -> None:
        """Read the weak fields, now that all were taken, or tell that they were passed over.

        Raises InvalidRequest where there are more addresses than one person has.
        """
        weak, self._weak = list(self._weak), {}
        if weak and self._names_address:
            # Be that a wrong one: the list's own address stands for none.
            names = ", ".join(_shown(field.name) for field in weak[:_MAX_TOLD_FIELDS])
            more = (
                f" and {len(weak) - _MAX_TOLD_FIELDS} more" if len(weak) > _MAX_TOLD_FIELDS else ""
            )
            were = "was" if len(weak) == 1 else "were"
            self._adjust("address", f"another field has it, so that {names}{more} {were} not read")
        else:
            for field in weak:
                self._take_address(field)

    @property
    def has_address(self) -> bool:
        """Whether there is a recipient's address; `settle` comes first."""
        return bool(self._candidates)

    def post(self) -> HookPost:
        """Return what was posted; raises InvalidRequest without a recipient's address. Call
        `settle` first.
        """
        if not self.has_address:
            raise self._no_address()
        if self.kinds:
            self.adjusted.pop(_KIND_NOT_KNOWN, None)
        return HookPost(
            list(self._candidates.values()),
            max(self.kinds, key=lambda kind: FACTS[kind].rank, default=Status.MANUAL),
            self.texts.get(Meaning.EVENT_ID),
            self.texts,
            list(self.adjusted.values()),
            self.refused,
        )

    def _no_address(self) -> InvalidRequest:
        if self._why is not None:
            return InvalidRequest(
                f"address: this is no email address. {self._why} Nothing was stored. Send one that"
                " mail can reach."
            )
        named = ""
        if self.unknown:
            named = (
                f" There are addresses in {', '.join(self.unknown[:3])}, but a field of that name"
                " may be another person's."
            )
        return InvalidRequest(
            f"The message has no recipient's address.{named} Nothing was stored. Send it in a field"
            " named email, and further ones of the same person in email2 and email3."
        )


def _shown(name: str) -> str:
    return shorten(to_storable_text(name))
