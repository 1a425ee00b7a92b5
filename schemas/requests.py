"""What a producer may ask for: which contacts, which fields, which action."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from schemas.statuses import Status

FieldName = Literal["email1", "email2", "email3"]
FIELD_NUMBERS: dict[str, int] = {name: n for n, name in enumerate(get_args(FieldName), start=1)}
THE_ADDRESS = 0
"""The field of a job that lists addresses: what it selects is the address itself, on no contact."""

FIELD_NAMES: dict[int, str] = {THE_ADDRESS: "address"} | {
    n: name for name, n in FIELD_NUMBERS.items()
}

MAX_ID = 2**63 - 1
ContactId = Annotated[int, Field(strict=True, ge=-MAX_ID - 1, le=MAX_ID)]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]
AddressText = Annotated[str, Field(min_length=1, max_length=1_000)]

MAX_URL = 2000
_URL = TypeAdapter(HttpUrl)


def _url_to_post_to(text: str) -> str:
    """The URL in its one form: a host's name in ASCII, an IPv4 address with its four numbers."""
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


PostUrl = Annotated[str, Field(max_length=MAX_URL), AfterValidator(_url_to_post_to)]


class Selection(BaseModel):
    """Which contacts a job takes. Several conditions narrow: a contact has to meet all of them.

    `statuses` keeps contacts that hold, in one of the job's fields, an address of one of these
    statuses. `contacts` may name ids that do not exist; each ends as a rejection. `addresses` names
    addresses instead of contacts, those among them that the account does not know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    all: bool = False
    tag: ShortText | None = None
    import_job: int | None = None
    statuses: tuple[Status, ...] = ()
    contacts: tuple[ContactId, ...] | None = None
    addresses: tuple[AddressText, ...] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Selection":
        narrowing = (self.tag, self.import_job, self.statuses or None, self.contacts)
        by_contact = self.all or any(condition is not None for condition in narrowing)
        if self.addresses is not None and by_contact:
            raise ValueError("addresses are selected by themselves; give no other condition")
        if self.addresses is None and not by_contact:
            raise ValueError(
                "name the contacts: by tag, import, status or a list of ids,"
                " or say that all are meant"
            )
        return self


class JobRequest(BaseModel):
    """One bulk action over one selection, as a producer hands it in.

    With `plan_first` the job waits, once its selection is frozen and what would happen is counted,
    until somebody has confirmed that. `completion_url` is told when the job has ended.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: ShortText = "default"
    action: ShortText
    selection: Selection
    fields: tuple[FieldName, ...] = ("email1",)
    params: dict[str, Any] = {}
    evidence: dict[str, Any] | None = None
    plan_first: bool = False
    requested_by: ShortText
    idempotency_key: ShortText | None = None
    correlation_id: ShortText | None = None
    completion_url: PostUrl | None = None

    @field_validator("fields")
    @classmethod
    def _fields_in_order(cls, fields: tuple[FieldName, ...]) -> tuple[FieldName, ...]:
        if not fields:
            raise ValueError("name at least one of email1, email2, email3")
        return tuple(sorted(set(fields)))

    @model_validator(mode="after")
    def _addresses_have_no_fields(self) -> "JobRequest":
        if self.selection.addresses is not None and "fields" in self.model_fields_set:
            raise ValueError("a selection of addresses has no fields; leave them out")
        return self

    @property
    def field_numbers(self) -> list[int]:
        """The fields as the job keeps them."""
        if self.selection.addresses is not None:
            return [THE_ADDRESS]
        return [FIELD_NUMBERS[name] for name in self.fields]

    @property
    def field_names(self) -> list[str]:
        """The fields as people read them."""
        return [FIELD_NAMES[number] for number in self.field_numbers]
