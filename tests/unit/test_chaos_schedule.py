"""The faults of `make chaos` are the same for the same seed, and include every kind."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.fault_plan import FAULT_GROUPS, Kind, Plan, draw_faults, plan_faults
from tests.chaos.traffic_plan import plan_traffic

DOCUMENT = Path(__file__).parents[2] / "docs" / "chaos.md"
SEEDS = st.integers(min_value=0, max_value=2**31)
SECONDS = st.integers(min_value=5, max_value=600)


@given(SEEDS, SECONDS)
def test_the_same_seed_gives_the_same_faults(seed: int, seconds: int):
    """Faults and traffic depend on nothing but the seed and the length."""
    assert draw_faults(seed, seconds) == draw_faults(seed, seconds)
    assert plan_traffic(seed, seconds) == plan_traffic(seed, seconds)


def test_another_seed_gives_other_faults():
    """Two seeds give different faults and traffic."""
    assert draw_faults(1, 120) != draw_faults(2, 120)
    assert plan_traffic(1, 120) != plan_traffic(2, 120)


@given(SEEDS)
def test_two_minutes_have_every_kind_three_times(seed: int):
    """In ten runs of two minutes each kind occurs thirty times."""
    kinds = Counter(fault.kind for fault in draw_faults(seed, 120))
    assert kinds == dict.fromkeys(Kind, 3)


@given(SEEDS, SECONDS)
def test_a_run_ends_without_faults(seed: int, seconds: int):
    """No cause lasts into the last quarter of a run, or into the last 15 seconds of
    a longer run.
    """
    for fault in draw_faults(seed, seconds):
        assert 0 < fault.at <= fault.at + fault.duration <= seconds - min(15, seconds / 4)


@given(SEEDS, SECONDS)
def test_faults_of_one_group_do_not_overlap(seed: int, seconds: int):
    """Faults of one group never overlap: a server that is down is not stopped again."""
    faults = draw_faults(seed, seconds)
    for lane in FAULT_GROUPS:
        for before, after in pairwise(fault for fault in faults if fault.kind in lane):
            assert before.at + before.duration < after.at


@given(SEEDS)
def test_the_faults_are_spread_out(seed: int):
    """In two minutes, no period of thirty seconds is without a new fault, and some
    faults overlap.
    """
    faults = draw_faults(seed, 120)
    assert all(after.at - before.at < 30 for before, after in pairwise(faults))
    assert any(before.at + before.duration > after.at for before, after in pairwise(faults))


@given(SEEDS, st.integers(min_value=5, max_value=39))
def test_a_short_run_has_as_many_kinds_as_fit(seed: int, seconds: int):
    """Each kind that fits occurs once before any occurs twice, and the quick kinds always occur."""
    kinds = Counter(fault.kind for fault in draw_faults(seed, seconds))
    assert set(kinds.values()) == {1}
    assert kinds.keys() & set(FAULT_GROUPS[0])


@given(SEEDS)
def test_a_one_by_one_run_has_one_fault_of_each_kind(seed: int):
    """A one-by-one run has one fault of each kind, however short it is."""
    kinds = Counter(fault.kind for fault in plan_faults(Plan(seed, 5, is_one_by_one=True)))
    assert kinds == dict.fromkeys(Kind, 1)


def test_every_kind_belongs_to_one_group():
    """Every kind belongs to exactly one group; a kind without a group would never occur."""
    assert sorted(kind for lane in FAULT_GROUPS for kind in lane) == sorted(Kind)


def test_every_kind_is_documented():
    """`docs/chaos.md` describes each kind of fault."""
    documented = re.findall(r"^\|[^|]+\| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(Kind)
