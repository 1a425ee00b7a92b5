"""Each example in the OpenAPI document is a valid request or response."""

import pytest

from producers.job_view import JobView
from web.job_requests import JobCreate
from web.routes.activity import ActivityPage
from web.routes.addresses import AddressResponse
from web.routes.contacts import ContactPage
from web.routes.results import ImportRejectionPage, ResultPage


@pytest.mark.parametrize(
    "model",
    [
        ActivityPage,
        AddressResponse,
        ContactPage,
        ImportRejectionPage,
        JobCreate,
        JobView,
        ResultPage,
    ],
)
def test_examples_are_valid_and_whole(model):
    """Each example is valid for its model and shows every field of a response."""
    for example in model.model_json_schema()["examples"]:
        read = model.model_validate(example)
        if model is not JobCreate:
            assert read.model_dump(mode="json", exclude_unset=True).keys() == example.keys()
            assert example.keys() == model.model_fields.keys()
