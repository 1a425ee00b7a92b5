"""What a hook's message says, read from its fields, whatever they came as: a form or JSON.

Who sets a sender up chooses the names, and it may send more than was asked for. So what an opt-out
needs is taken from wherever it plausibly is, the rest is not kept, and nothing that does not matter
for the opt-out refuses it: it is passed over, and told of.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from producers.field_names import Meaning, meaning_of
from producers.hook_addresses import addresses_in
from producers.wrong_input import shortened, storable
from schemas.addresses import InvalidAddress, identify
from schemas.errors import WrongInput
from schemas.json_input import Pairs
from schemas.statuses import FACTS, RECIPIENT_KINDS, Status

_MAX_ADDRESSES = 200
_MAX_NAMED = 20
"""Fields that are named in an answer; more are left out of it."""

_MAX_LEVELS = 32
"""Deeper in JSON there is no field of a recipient."""

_MAX_PATH = 300
"""Longer names are cut; none of them means anything."""

_UNREADABLE = "\N{REPLACEMENT CHARACTER}"

_KINDS = {kind.value.replace("_", ""): kind for kind in RECIPIENT_KINDS}


class Field(NamedTuple):
    """A field as it came. In a form that is not multipart a blank may have been a plus sign."""

    name: str
    text: str
    blank_is_plus: bool = False


class Adjusted(NamedTuple):
    """What was passed over or read otherwise than it came, and why."""

    what: str
    message: str

    def __str__(self) -> str:
        return f"{self.what}: {self.message}"


class HookPost(NamedTuple):
    """One person's opt-out. `refused` are the names of fields whose text is no address."""

    addresses: list[str]
    refused: list[str]
    kind: Status
    event_id: str | None
    texts: dict[Meaning, str]
    adjusted: list[Adjusted]

    @property
    def match_keys(self) -> list[str]:
        """The addresses as the account knows them, in one order."""
        return sorted(identify(address).match_key for address in self.addresses)


def read_post(fields: Iterable[Field]) -> HookPost:
    """Return what the fields say; raises WrongInput where there is no address of a recipient."""
    reading = _Reading()
    for field in fields:
        reading.take(field)
    return reading.post()


def fields_of(value: Any, path: str = "", *, levels: int = _MAX_LEVELS) -> Iterator[Field]:
    """Yield the texts and numbers of JSON as `read_pairs` gives it, each named by its path."""
    if isinstance(value, str):
        yield Field(path, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield Field(path, json.dumps(value))
    elif isinstance(value, list) and levels:
        parts = value if isinstance(value, Pairs) else ((str(n), x) for n, x in enumerate(value))
        for name, part in parts:
            yield from fields_of(part, _within(path, name), levels=levels - 1)


def _within(path: str, name: str) -> str:
    # Cut, so that many members do not each repeat a name of a million characters.
    return f"{path}.{name}"[:_MAX_PATH] if path else name[:_MAX_PATH]


def kept_text(text: str) -> str:
    """Return the text with a mark for each character that Postgres cannot keep."""
    if storable(text):
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", _UNREADABLE)


class _Reading:
    """What has been read of a message so far."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._seen: set[Field] = set()
        self._refused: list[str] = []
        self._kinds: list[Status] = []
        self._texts: dict[Meaning, str] = {}
        self._adjusted: dict[str, Adjusted] = {}
        self._unknown: list[str] = []
        self._why: InvalidAddress | None = None

    def take(self, field: Field) -> None:
        """Raises WrongInput where there are more addresses than one person has."""
        if not field.text.strip():
            return
        match meaning_of(field.name):
            case None:
                if field.name and "@" in field.text and len(self._unknown) < _MAX_NAMED:
                    self._unknown.append(_shown(field.name))
            case Meaning.ADDRESS:
                self._take_address(field)
            case Meaning.KIND:
                self._take_kind(field.text)
            case meaning:
                self._texts.setdefault(meaning, field.text.strip())

    def _take_address(self, field: Field) -> None:
        if field in self._seen:
            return
        self._seen.add(field)
        self._require_one_person()
        try:
            read = addresses_in(field.text, blank_is_plus=field.blank_is_plus)
        except InvalidAddress as error:
            self._why = error
            self._refuse(field)
            return
        for address in read.addresses:
            self._addresses.setdefault(identify(address).match_key, address)
        self._require_one_person()
        if not read.is_whole:
            self._refuse(field)
        if read.blank_read:
            self._adjust("address", "a blank in it was read as a plus sign that was not encoded")

    def _require_one_person(self) -> None:
        if max(len(self._seen), len(self._addresses)) > _MAX_ADDRESSES:
            raise WrongInput(
                f"The message has more than {_MAX_ADDRESSES} addresses, which are not one person's."
                " Nothing was stored. Send one message for each person."
            )

    def _refuse(self, field: Field) -> None:
        if len(self._refused) < _MAX_NAMED:
            self._refused.append(_shown(field.name))

    def _take_kind(self, text: str) -> None:
        plain = "".join(filter(str.isalpha, text.casefold()))
        if (kind := _KINDS.get(plain)) is not None:
            self._kinds.append(kind)
        else:
            self._adjust("kind", f"it is not known, and counts as {Status.MANUAL.value}")

    def _adjust(self, what: str, message: str) -> None:
        self._adjusted.setdefault(what, Adjusted(what, message))

    def post(self) -> HookPost:
        """Raises WrongInput where there is no address of a recipient."""
        if not self._addresses:
            raise self._no_address()
        if self._kinds:
            self._adjusted.pop("kind", None)
        return HookPost(
            list(self._addresses.values()),
            self._refused,
            max(self._kinds, key=lambda kind: FACTS[kind].rank, default=Status.MANUAL),
            self._texts.get(Meaning.EVENT_ID),
            self._texts,
            list(self._adjusted.values()),
        )

    def _no_address(self) -> WrongInput:
        if self._why is not None:
            return WrongInput(
                f"address: this is no email address. {self._why} Nothing was stored. Send one that"
                " mail can reach."
            )
        named = ""
        if self._unknown:
            named = (
                f" There are addresses in {', '.join(self._unknown[:3])}, but a field of that name"
                " may be another person's."
            )
        return WrongInput(
            f"The message has no recipient's address.{named} Nothing was stored. Send it in a field"
            " named email, and further ones of the same person in email2 and email3."
        )


def _shown(name: str) -> str:
    return shortened(kept_text(name))
