"""What a producer may ask for: which contacts, which fields, which action."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.statuses import Status

FieldName = Literal["email1", "email2", "email3"]
FIELD_NUMBERS: dict[str, int] = {name: n for n, name in enumerate(get_args(FieldName), start=1)}
FIELD_NAMES: dict[int, str] = {n: name for name, n in FIELD_NUMBERS.items()}

ADDRESS_FIELD = 0
"""The field of a job over listed addresses, which it takes whoever holds them."""

MAX_ID = 2**63 - 1
ContactId = Annotated[int, Field(strict=True, ge=-MAX_ID - 1, le=MAX_ID)]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]


class Selection(BaseModel):
    """Which contacts a job takes. Several conditions narrow: a contact has to meet all of them.

    `statuses` keeps contacts that hold, in one of the job's fields, an address of one of these
    statuses. `contacts` may name ids that do not exist; each ends as a rejection.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    all: bool = False
    tag: ShortText | None = None
    import_job: int | None = None
    statuses: tuple[Status, ...] = ()
    contacts: tuple[ContactId, ...] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Selection":
        narrowing = (self.tag, self.import_job, self.statuses or None, self.contacts)
        if not self.all and all(condition is None for condition in narrowing):
            raise ValueError(
                "name the contacts: by tag, import, status or a list of ids,"
                " or say that all are meant"
            )
        return self


class JobRequest(BaseModel):
    """One bulk action over one selection, as a producer hands it in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: ShortText = "default"
    action: ShortText
    selection: Selection
    fields: tuple[FieldName, ...] = ("email1",)
    params: dict[str, Any] = {}
    evidence: dict[str, Any] | None = None
    requested_by: ShortText
    idempotency_key: ShortText | None = None
    correlation_id: ShortText | None = None

    @field_validator("fields")
    @classmethod
    def _fields_in_order(cls, fields: tuple[FieldName, ...]) -> tuple[FieldName, ...]:
        if not fields:
            raise ValueError("name at least one of email1, email2, email3")
        return tuple(sorted(set(fields)))
