"""The request for a job: which contacts, which fields, which action."""

import re
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    StrictBool,
    StrictInt,
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
"""The fields of a job or a search that names none."""

LISTED_ADDRESS_FIELD = 0
"""The field of a job that lists addresses, which it selects without a contact."""

FIELD_NAMES: dict[int, str] = {LISTED_ADDRESS_FIELD: "address"} | {
    n: name for name, n in FIELD_NUMBERS.items()
}

MAX_ID = 2**63 - 1
ContactId = Annotated[int, Field(strict=True, ge=-MAX_ID - 1, le=MAX_ID)]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]
AddressText = Annotated[str, Field(min_length=1, max_length=1_000)]

T = TypeVar("T")
_ListOf: TypeAlias = Annotated[tuple[T, ...], Field(fail_fast=True)]
"""A list that reports only its first error, since an error takes a hundred times as much memory as
the invalid value."""

FieldNames = _ListOf[FieldName]

MAX_URL = 2000
_URL = TypeAdapter(HttpUrl)

_has_repairable_character = re.compile(r"[\\\s\x00-\x1f\x7f]").search
"""URL parsers drop or change these characters, so the URL would become another one."""


def _validate_webhook_url(text: str) -> str:
    """Normalize the URL: the host's name in ASCII, or an IPv4 address with its four numbers."""
    if _has_repairable_character(text):
        raise ValueError("remove or encode blanks, control characters and backslashes")
    try:
        url = _URL.validate_python(text)
    except ValidationError:
        raise ValueError("give a full http or https address") from None
    if url.username is not None or url.password is not None:
        raise ValueError("remove the user and password; each delivery is signed instead")
    if url.fragment is not None:
        raise ValueError("remove the part from # on, which is never sent")
    if len(str(url)) > MAX_URL:
        raise ValueError(f"shorten it to {MAX_URL:,} characters in ASCII")
    return str(url)


WebhookUrl = Annotated[str, Field(max_length=MAX_URL), AfterValidator(_validate_webhook_url)]


UPLOADED = "uploaded"
"""The key in a validation's context that names the list which a file supplies."""


def _require_meaningful(condition: Any, info: ValidationInfo) -> Any:
    """Reject a condition that is null, which all contacts would meet, or empty, which none would.

    pydantic does not validate a condition that is left out.
    """
    if condition is None:
        raise ValueError("null is not a condition; give a value, or leave it out")
    if condition == () and (info.context or {}).get(UPLOADED) != info.field_name:
        raise ValueError("the list is empty; list at least one, or leave it out")
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
    """Which contacts a job selects: those that meet all of its conditions.

    `statuses` selects contacts that hold, in one of the job's fields, an address with one of these
    statuses. `contacts` may list ids that do not exist; each becomes a rejection. `addresses` lists
    addresses instead of contacts, and may list ones that are new to the account. An empty list and
    null are errors; leave an unwanted condition out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    all: StrictBool = False
    tag: Annotated[ShortText | None, _MEANINGFUL, _Condition] = None
    import_job: Annotated[StrictInt | None, _MEANINGFUL, _Condition] = None
    statuses: Annotated[_ListOf[Status] | None, _MEANINGFUL, _Condition] = None
    contacts: Annotated[_ListOf[ContactId] | None, _MEANINGFUL, _Condition] = None
    addresses: Annotated[_ListOf[AddressText] | None, _MEANINGFUL, _Condition] = None

    @property
    def conditions(self) -> set[str]:
        """The names of the conditions that were given."""
        return {name for name, value in self if value is not None and value is not False}

    @property
    def awaits_file(self) -> bool:
        """True if a file must supply its list."""
        return () in {self.contacts, self.addresses}

    @model_validator(mode="after")
    def _require_condition(self) -> "Selection":
        by_contact = self.conditions - {"addresses"}
        if self.addresses is not None and by_contact:
            raise ValueError("addresses cannot be combined with other conditions; remove those")
        if self.addresses is None and not by_contact:
            raise ValueError(
                "give a condition (tag, import_job, statuses, contacts or addresses), or set all"
                " to true"
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
    plan_first: StrictBool = False
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
            raise ValueError("a selection of addresses has no fields; remove them")
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
