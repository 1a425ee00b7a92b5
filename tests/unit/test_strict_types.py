"""A number or a truth value in a request is taken only as what it is, and never converted."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from actions.import_contacts import ImportParams
from actions.opt_out import OptOutParams
from schemas.requests import JobRequest
from web.job_requests import JobCreate
from web.routes.opt_outs import OptOutRequest
from web.routes.plans import ApplyRequest

MODELS: tuple[type[BaseModel], ...] = (
    *(JobCreate, JobRequest, OptOutRequest, ApplyRequest, ImportParams, OptOutParams),
)


def scalars(part: Any, path: str) -> Iterator[tuple[str, bool]]:
    """Yield the place of each bool and int of a core schema, and whether it is strict."""
    if isinstance(part, list):
        part = dict(enumerate(part))
    if not isinstance(part, dict):
        return
    if part.get("type") in {"bool", "int"}:
        yield path, part.get("strict", False)
    for name, inner in part.items():
        if name not in {"serialization", "metadata", "expected"}:
            yield from scalars(inner, f"{path}.{name}")


@pytest.mark.parametrize("model", MODELS)
def test_no_number_or_truth_value_is_converted(model: type[BaseModel]) -> None:
    """A field of a request that is lax would take "yes" for true, and true for 1."""
    found = list(scalars(model.__pydantic_core_schema__, model.__name__))
    assert [path for path, is_strict in found if not is_strict] == []


def test_the_fields_that_select_contacts_are_checked() -> None:
    """The walk over a model finds the two fields that can select the wrong contacts."""
    found = " ".join(path for path, _ in scalars(JobCreate.__pydantic_core_schema__, ""))
    assert ".all." in found
    assert ".import_job." in found
