"""The body of a request that submits a job."""

import re
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, field_validator

from producers.invalid_request import parse_request
from producers.keys import Caller
from schemas.examples import get_examples
from schemas.requests import (
    DEFAULT_FIELDS,
    FieldNames,
    JobRequest,
    Selection,
    ShortText,
    WebhookUrl,
)

MAX_LISTED = 100_000
"""The maximum number of ids or addresses in a body; a longer list is sent as a file."""

MAX_IRREGULAR = 2_000
"""The maximum number of unusual addresses in a body. Each takes a hundred times longer to read
than a usual one."""

_is_irregular = re.compile(r'[^\x00-\x7f]|xn--|["%]', re.IGNORECASE).search


class JobCreate(BaseModel):
    """A bulk action over a selection of the key's account."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra=get_examples("JobCreate")
    )

    action: Annotated[ShortText, Field(description="`opt_in` or `opt_out`.")]
    selection: Annotated[
        Selection,
        Field(
            description="Which contacts: those that meet all conditions. An empty list and null are"
            f" rejected. At most {MAX_LISTED:,} `contacts` or `addresses`; send more as a file."
        ),
    ]
    fields: Annotated[
        FieldNames,
        Field(
            description="Which of their addresses. The selection's `statuses` are about these only."
        ),
    ] = DEFAULT_FIELDS
    params: Annotated[
        dict[str, Any], Field(description="The action's parameters, such as an opt-out's `note`.")
    ] = {}
    evidence: Annotated[
        dict[str, Any] | None,
        Field(
            description="The evidence of permission that an opt-in needs. If anything is missing,"
            " `prompts` of the response lists all of it."
        ),
    ] = None
    mode: Annotated[
        Literal["run", "plan"],
        Field(
            description="`plan`: only count what would happen. The job then waits for its"
            " confirmation."
        ),
    ] = "run"
    completion_url: Annotated[
        WebhookUrl | None,
        Field(
            description="Receives the completion webhook: a signed POST, sent once or more, that"
            " tells how the job ended.",
            examples=["https://shop.example/sluice"],
        ),
    ] = None
    requested_by: Annotated[
        ShortText | None, Field(description="Who asks; by default the key's name.")
    ] = None

    @field_validator("selection")
    @classmethod
    def _limit_lists(cls, selection: Selection) -> Selection:
        for name in ("contacts", "addresses"):
            listed = getattr(selection, name)
            if listed is not None and len(listed) > MAX_LISTED:
                _reject_list(f"{MAX_LISTED:,} {name}", len(listed), name)
        irregular = sum(1 for text in selection.addresses or () if _is_irregular(text))
        if irregular > MAX_IRREGULAR:
            kinds = "addresses with characters beyond ASCII, `xn--`, quotes or `%`"
            _reject_list(f"{MAX_IRREGULAR:,} {kinds}", irregular, "addresses")
        return selection

    def to_request(
        self, caller: Caller, *, idempotency_key: str | None, correlation_id: str
    ) -> JobRequest:
        """Return the job request of the caller's account.

        Raise InvalidRequest if its parts contradict each other.
        """
        given = self.model_fields_set - {"mode", "requested_by"}
        return parse_request(
            {
                **{name: getattr(self, name) for name in given},
                "account": caller.account,
                "plan_first": self.mode == "plan",
                "requested_by": self.requested_by or caller.key_name,
                "idempotency_key": idempotency_key,
                "correlation_id": correlation_id,
            }
        )


def _reject_list(limit: str, count: int, name: str) -> NoReturn:
    raise ValueError(
        f"at most {limit} are allowed, and there are {count:,}; send them as a file, in the part"
        f" `{name}` of multipart/form-data"
    )
