"""What the action example_action does to an address.

The promises that hold for every action, such as that none reopens an opt-out, are tested in
`tests/unit/test_transitions.py`. Here is what is special to this one.
"""

import pytest
from pydantic import ValidationError

from cli.templates.action import TARGET, ExampleAction
from schemas.decisions import AddressState, apply, leave
from schemas.outcomes import Outcome
from schemas.statuses import MARKETABLE, OPTED_OUT, Status

ACTION = ExampleAction()
PARAMS = ACTION.params()
DECISIONS = {row.from_status: row.decision for row in ACTION.transitions}


@pytest.mark.parametrize("status", Status)
def test_decisions_follow_the_table(status: Status) -> None:
    """What the documents show for a status is what is decided."""
    assert ACTION.decide(AddressState(status), PARAMS) == DECISIONS[status]


@pytest.mark.parametrize("status", sorted(MARKETABLE))
def test_a_marketable_address_is_marked(status: Status) -> None:
    """Each address that may get broadcasts gets the target status."""
    assert ACTION.decide(AddressState(status), PARAMS) == apply(TARGET)


def test_a_repeated_job_changes_nothing() -> None:
    """What the action has made of an address, it leaves as it is."""
    assert ACTION.decide(AddressState(TARGET), PARAMS) == leave("already_unengaged")


@pytest.mark.parametrize("status", sorted(OPTED_OUT))
def test_an_opt_out_is_kept(status: Status) -> None:
    """An opted-out address is rejected, with a reason."""
    decision = ACTION.decide(AddressState(status), PARAMS)
    assert decision.outcome is Outcome.REJECTED
    assert decision.reason


def test_an_unknown_parameter_is_rejected() -> None:
    """A submitter who mistypes a parameter learns it before anything is stored."""
    with pytest.raises(ValidationError, match="nots"):
        ACTION.params.model_validate({"nots": "a typing error"})
