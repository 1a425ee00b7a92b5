"""The Hypothesis profile decides how many examples a property has."""

import re
from pathlib import Path

from hypothesis import settings

from tests.kit.property_examples import PROFILES, example_count

TESTS = Path(__file__).parents[1]


def test_no_test_fixes_its_number_of_examples() -> None:
    """Tests that set a number of examples use `example_count` or `check_property`, which scale it
    by the profile.
    """
    fixed = re.compile(r"settings\([^)]*max_examples=\d")
    found = [
        path.name
        for path in TESTS.rglob("test_*.py")
        if fixed.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_each_profile_scales_the_number_of_examples() -> None:
    """A profile scales the requested number: few during development, many at night,
    at least one.
    """
    loaded = settings.get_current_profile_name()
    try:
        counts = {}
        for name in PROFILES:
            settings.load_profile(name)
            counts[name] = example_count(40), example_count(1)
    finally:
        settings.load_profile(loaded)
    assert counts == {"dev": (4, 1), "ci": (20, 1), "nightly": (800, 20)}
