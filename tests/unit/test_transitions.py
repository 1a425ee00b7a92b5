"""The transition tables, row by row, against a copy written from the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.import_contacts import ImportParams
from actions.opt_in import OptIn
from actions.opt_out import OptOutParams
from actions.registry import all_actions, get_action
from schemas.decisions import AddressState
from schemas.errors import NotFound
from schemas.outcomes import Outcome, Reason
from schemas.statuses import MARKETABLE, OPTED_OUT, Status, rank_of
from tests.kit import model
from tests.kit.documents import params_of, variants_of

KINDS = ["admin", "manual", "list_unsubscribe", "feedback", "spam"]
SPREADING = {Status.ADMIN, Status.MANUAL}
knowns = st.builds(
    lambda status, spread, sibling_opted_out: AddressState(
        status, spread and status in SPREADING, sibling_opted_out
    ),
    st.sampled_from(Status),
    st.booleans(),
    st.booleans(),
)


def expected_opt_in(known: AddressState) -> tuple[str, str | None]:
    """Return outcome and reason by the tests' own table, which does not use the product's."""
    status = str(known.status)
    if status in model.MARKETABLE:
        return "unchanged", "already_marketable"
    if status in model.REFUSED:
        return "rejected", model.REFUSED[status]
    return ("rejected", "sibling_opted_out") if known.sibling_opted_out else ("applied", None)


def test_ranks_and_marketability_are_as_specified():
    """Every status has the rank, the propagated rank and the marketability that the
    rules specify.
    """
    assert {status: status.rank for status in Status} == model.RANK
    assert {s: s.propagated_rank for s in Status if s.propagated_rank} == model.SPREAD_RANK
    assert model.MARKETABLE == MARKETABLE
    assert {status for status, rank in model.RANK.items() if rank >= 3} == OPTED_OUT


@given(knowns)
def test_opt_in_follows_its_table(known: AddressState):
    """An opt-in from each status ends as the table says; only non-marketable becomes marketable."""
    action = get_action("opt_in")
    decision = action.decide(known, action.params())
    assert (decision.outcome, decision.reason) == expected_opt_in(known)
    assert decision.to_status == ("single_opt_in" if decision.outcome == "applied" else None)


@given(knowns, st.sampled_from(KINDS))
def test_opt_out_replaces_exactly_lower_ranks(known: AddressState, kind: str):
    """An opt-out replaces every lower rank, including a propagated one, and no other."""
    decision = get_action("opt_out").decide(known, OptOutParams(kind=kind))
    present = (model.SPREAD_RANK if known.is_propagated else model.RANK)[known.status]
    if model.RANK[kind] > present:
        assert decision == (Outcome.APPLIED, kind, None)
    else:
        assert decision == (Outcome.UNCHANGED, None, Reason.ALREADY_OPTED_OUT)


@given(knowns, st.booleans())
def test_an_import_opts_in_only_with_permission(known: AddressState, permission: bool):
    """Without permission a known address keeps its status; with it, the rules of an
    opt-in apply.
    """
    decision = get_action("import").decide(known, ImportParams(permission=permission))
    if permission:
        assert (decision.outcome, decision.reason) == expected_opt_in(known)
    else:
        assert decision == (Outcome.UNCHANGED, None, Reason.STATUS_KEPT)


@given(knowns, st.sampled_from(sorted(Status)), st.booleans())
def test_a_stated_status_never_lowers_a_rank(known: AddressState, stated: Status, permission: bool):
    """A suppression stated by a file replaces a lower rank. A stated status never lowers a rank,
    and one below permission gives none.
    """
    action = get_action("import")
    params = ImportParams(permission=permission, statuses=True)
    decision = action.decide(known._replace(stated=stated), params)
    present = rank_of(known.status, is_propagated=known.is_propagated)
    if rank_of(stated, is_propagated=False) > present:
        assert decision == (Outcome.APPLIED, stated, None)
    elif stated in MARKETABLE and permission:
        assert (decision.outcome, decision.reason) == expected_opt_in(known)
    else:
        assert decision == (Outcome.UNCHANGED, None, Reason.STATUS_KEPT)


@given(st.sampled_from(sorted(Status)), st.booleans())
def test_a_new_address_gets_the_stated_status_without_permission(stated: Status, permission: bool):
    """A new address gets the status that its file states. Only the importer's claim of permission
    makes it marketable; no column does.
    """
    params = ImportParams(permission=permission, statuses=True)
    decision = get_action("import").decide(AddressState(None, stated=stated), params)
    expected = stated if permission or stated not in MARKETABLE else Status.NON_MARKETABLE
    assert decision == (Outcome.APPLIED, expected, None)


@pytest.mark.parametrize(
    ("permission", "status"), [(True, "single_opt_in"), (False, "non_marketable")]
)
def test_permission_decides_the_first_status(permission: bool, status: str):
    """The importer's claim of permission decides the first status (seeds 000 to 002)."""
    action = get_action("import")
    decision = action.decide(AddressState(None), ImportParams(permission=permission))
    assert decision == (Outcome.APPLIED, status, None)


@given(st.data(), knowns, st.sampled_from(sorted(all_actions())))
def test_no_action_reopens_an_opt_out(data: st.DataObject, known: AddressState, name: str):
    """Promise 1: from a rank of 3 or more, no action leads to a marketable status."""
    action = all_actions()[name]
    _, given_params = data.draw(st.sampled_from(variants_of(action)))
    decision = action.decide(known, params_of(action, given_params))
    if rank_of(known.status, is_propagated=known.is_propagated) >= 3:
        assert decision.to_status not in MARKETABLE


@given(knowns, st.sampled_from(["opt_in", "opt_out"]))
def test_deciding_again_on_the_result_changes_nothing(known: AddressState, name: str):
    """Repeating an action on its own result changes nothing."""
    action = get_action(name)
    first = action.decide(known, action.params())
    if first.to_status is not None:
        again = action.decide(
            AddressState(first.to_status, sibling_opted_out=False), action.params()
        )
        assert again.outcome is Outcome.UNCHANGED


def test_each_table_has_one_transition_for_each_status():
    """Each status occurs exactly once, and each transition has an explanation."""
    for action in all_actions().values():
        froms = [transition.from_status for transition in action.transitions]
        assert sorted(status for status in froms if status) == sorted(Status), action.name
        assert all(transition.because for transition in action.transitions)


def test_an_action_over_lists_of_addresses_cannot_check_siblings():
    """The siblings of listed addresses are not checked, so such an action cannot be defined. Its
    decisions would miss opted-out siblings.
    """
    with pytest.raises(TypeError, match=r"^Both has both checks_siblings and accepts_addresses"):
        type("Both", (OptIn,), {"accepts_addresses": True})


def test_each_reason_is_explained():
    """Every reason that counts or results can show has an explanation."""
    assert all(reason.meaning for reason in Reason)


def test_an_unknown_action_is_rejected_with_the_known_names():
    """The error for an unknown action lists the known ones."""
    with pytest.raises(NotFound, match=r"'unsubscribe'.*import.*opt_in.*opt_out"):
        get_action("unsubscribe")
