"""What a producer may ask for: which contacts, which fields, which action."""

import re
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.statuses import Status

FieldName = Literal["email1", "email2", "email3"]
FIELD_NUMBERS: dict[str, int] = {name: n for n, name in enumerate(get_args(FieldName), start=1)}
DEFAULT_FIELDS: tuple[FieldName, ...] = ("email1",)
"""Those that a job takes, and a search looks at, where none are named."""

LISTED_ADDRESS_FIELD = 0
"""The field of a job that lists addresses: what it selects is the address itself, on no contact."""

FIELD_NAMES: dict[int, str] = {LISTED_ADDRESS_FIELD: "address"} | {
    n: name for name, n in FIELD_NUMBERS.items()
}

MAX_ID = 2**63 - 1
ContactId = Annotated[int, Field(strict=True, ge=-MAX_ID - 1, le=MAX_ID)]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]
AddressText = Annotated[str, Field(min_length=1, max_length=1_000)]

T = TypeVar("T")
_ListOf: TypeAlias = Annotated[tuple[T, ...], Field(fail_fast=True)]
"""A list of which only the first mistake is told: an error takes a hundred times as much memory as
the value that is wrong."""

FieldNames = _ListOf[FieldName]

MAX_URL = 2000
_URL = TypeAdapter(HttpUrl)

_has_repairable_character = re.compile(r"[\\\s\x00-\x1f\x7f]").search
"""Readers of URLs drop these, or take them for something else: the URL would be another one."""


def _validate_webhook_url(text: str) -> str:
    """Normalize the URL: the host's name in ASCII, or an IPv4 address with its four numbers."""
    if _has_repairable_character(text):
        raise ValueError("leave out blanks, control characters and backslashes, or encode them")
    try:
        url = _URL.validate_python(text)
    except ValidationError:
        raise ValueError("give a full http or https address") from None
    if url.username is not None or url.password is not None:
        raise ValueError("leave user and password out of it: each notice is signed")
    if url.fragment is not None:
        raise ValueError("leave out the part from # on, which is never sent")
    if len(str(url)) > MAX_URL:
        raise ValueError(f"it has more than {MAX_URL} characters when it is written in ASCII")
    return str(url)


WebhookUrl = Annotated[str, Field(max_length=MAX_URL), AfterValidator(_validate_webhook_url)]


UPLOADED = "uploaded"
"""In the context of a validation: the list of the selection that a file brings, empty in itself."""


def _require_meaningful(condition: Any, info: ValidationInfo) -> Any:
    """Refuse a condition that is named and says nothing: it must not be met by everybody.

    One that is left out is not validated, and so does not come here.
    """
    if condition is None:
        raise ValueError("null is not a condition; give a value, or leave the member out")
    if condition == () and (info.context or {}).get(UPLOADED) != info.field_name:
        raise ValueError("the list is empty, so it selects nobody; list something or leave it out")
    return condition


def _document_condition(schema: dict[str, Any]) -> None:
    """Document that a condition is left out or says something, and is never null."""
    (said,) = (each for each in schema.pop("anyOf") if each != {"type": "null"})
    del schema["default"]
    schema.update(said)
    if schema["type"] == "array":
        schema["minItems"] = 1


_Condition = Field(json_schema_extra=_document_condition)
_MEANINGFUL = AfterValidator(_require_meaningful)


class Selection(BaseModel):
    """Which contacts a job takes. Several conditions narrow: a contact has to meet all of them.

    `statuses` keeps contacts that hold, in one of the job's fields, an address of one of these
    statuses. `contacts` may name ids that do not exist; each ends as a rejection. `addresses` names
    addresses instead of contacts, those among them that the account does not know. A condition that
    is not meant is left out: an empty list and null are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    all: bool = False
    tag: Annotated[ShortText | None, _MEANINGFUL, _Condition] = None
    import_job: Annotated[int | None, _MEANINGFUL, _Condition] = None
    statuses: Annotated[_ListOf[Status] | None, _MEANINGFUL, _Condition] = None
    contacts: Annotated[_ListOf[ContactId] | None, _MEANINGFUL, _Condition] = None
    addresses: Annotated[_ListOf[AddressText] | None, _MEANINGFUL, _Condition] = None

    @property
    def conditions(self) -> set[str]:
        """The names of the conditions that were given."""
        return {name for name, value in self if value is not None and value is not False}

    @property
    def awaits_file(self) -> bool:
        """Whether it selects a list that a file has to bring."""
        return () in {self.contacts, self.addresses}

    @model_validator(mode="after")
    def _require_condition(self) -> "Selection":
        by_contact = self.conditions - {"addresses"}
        if self.addresses is not None and by_contact:
            raise ValueError("addresses are selected by themselves; give no other condition")
        if self.addresses is None and not by_contact:
            raise ValueError(
                "name the contacts: by tag, import, status or a list of ids,"
                " or say that all are meant"
            )
        return self


class JobRequest(BaseModel):
    """One bulk action over one selection, as a producer submits it.

    With `plan_first` the job is planned: it waits with its forecast for a confirmation.
    `completion_url` is told when the job has ended.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: ShortText = "default"
    action: ShortText
    selection: Selection
    fields: FieldNames = DEFAULT_FIELDS
    params: dict[str, Any] = {}
    evidence: dict[str, Any] | None = None
    plan_first: bool = False
    requested_by: ShortText
    idempotency_key: ShortText | None = None
    correlation_id: ShortText | None = None
    completion_url: WebhookUrl | None = None

    @field_validator("fields")
    @classmethod
    def _sort_fields(cls, fields: tuple[FieldName, ...]) -> tuple[FieldName, ...]:
        if not fields:
            raise ValueError("name at least one of email1, email2, email3")
        return tuple(sorted(set(fields)))

    @model_validator(mode="after")
    def _reject_fields_of_addresses(self) -> "JobRequest":
        if self.selection.addresses is not None and "fields" in self.model_fields_set:
            raise ValueError("a selection of addresses has no fields; leave them out")
        return self

    @property
    def field_numbers(self) -> list[int]:
        """The fields as the job keeps them."""
        if self.selection.addresses is not None:
            return [LISTED_ADDRESS_FIELD]
        return [FIELD_NUMBERS[name] for name in self.fields]

    @property
    def field_names(self) -> list[str]:
        """The fields as people read them."""
        return [FIELD_NAMES[number] for number in self.field_numbers]
