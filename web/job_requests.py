"""What callers say when they ask for a job."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from producers.invalid_request import parse_request
from producers.keys import Caller
from schemas.requests import (
    DEFAULT_FIELDS,
    FieldNames,
    JobRequest,
    Selection,
    ShortText,
    WebhookUrl,
)

MAX_LISTED = 100_000
"""More ids, or addresses, than this come as a file."""

MAX_IRREGULAR = 2_000
"""More addresses that are not plain come as a file too: each takes as long to look at as a hundred
others.
"""

_is_irregular = re.compile(r'[^\x00-\x7f]|xn--|["%]', re.IGNORECASE).search


class JobCreate(BaseModel):
    """A bulk action over a selection of the account that the key belongs to."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"action": "opt_out", "selection": {"tag": "spring"}, "params": {"note": "moved"}},
                {
                    "action": "opt_in",
                    "selection": {"contacts": [17, 18, 19]},
                    "fields": ["email1", "email2"],
                    "evidence": {
                        "source": "customer_relationship",
                        "description": "They agreed at the till when they became customers.",
                        "collected_from": "2024-01-01",
                        "collected_until": "2024-12-31",
                        "attested_by": "the shop's manager",
                    },
                },
            ]
        },
    )

    action: Annotated[ShortText, Field(description="`opt_in` or `opt_out`.")]
    selection: Annotated[
        Selection,
        Field(
            description="Which contacts; several conditions narrow, and one that is named says"
            " something: an empty list and null are refused. At most"
            f" {MAX_LISTED:,} `contacts` or `addresses`: more of them come as a file."
        ),
    ]
    fields: Annotated[
        FieldNames,
        Field(
            description="Which of their addresses are meant. The selection's `statuses` look at"
            " these and at no others."
        ),
    ] = DEFAULT_FIELDS
    params: Annotated[
        dict[str, Any], Field(description="The action's own, such as an opt-out's `note`.")
    ] = {}
    evidence: Annotated[
        dict[str, Any] | None,
        Field(
            description="Of permission, which an opt-in needs. What is missing is asked for, all of"
            " it at once, in `prompts` of the answer."
        ),
    ] = None
    mode: Annotated[
        Literal["run", "plan"],
        Field(
            description="`plan`: only count what would happen. The job then waits until somebody"
            " has confirmed that."
        ),
    ] = "run"
    completion_url: Annotated[
        WebhookUrl | None,
        Field(
            description="Told how the job ended, by a signed POST that comes once or more.",
            examples=["https://shop.example/sluice"],
        ),
    ] = None
    requested_by: Annotated[
        ShortText | None, Field(description="Who asks; the key's name where nobody is named.")
    ] = None

    @field_validator("selection")
    @classmethod
    def _limit_lists(cls, selection: Selection) -> Selection:
        for name in ("contacts", "addresses"):
            listed = getattr(selection, name)
            if listed is not None and len(listed) > MAX_LISTED:
                raise ValueError(
                    f"at most {MAX_LISTED:,} {name}, and there are {len(listed):,}; send them as"
                    f" a file, in the part `{name}` of multipart/form-data"
                )
        odd = sum(1 for text in selection.addresses or () if _is_irregular(text))
        if odd > MAX_IRREGULAR:
            raise ValueError(
                f"at most {MAX_IRREGULAR:,} addresses with characters beyond ASCII, `xn--`,"
                " quotes or"
                f" `%`, and there are {odd:,}; send them as a file, in the part `addresses` of"
                " multipart/form-data"
            )
        return selection

    def to_request(
        self, caller: Caller, *, idempotency_key: str | None, correlation_id: str
    ) -> JobRequest:
        """Convert the body into the request that every producer submits, for the caller's account.

        Raises InvalidRequest for fields that do not go together.
        """
        asked = self.model_fields_set - {"mode", "requested_by"}
        return parse_request(
            {
                **{name: getattr(self, name) for name in asked},
                "account": caller.account,
                "plan_first": self.mode == "plan",
                "requested_by": self.requested_by or caller.key_name,
                "idempotency_key": idempotency_key,
                "correlation_id": correlation_id,
            }
        )
