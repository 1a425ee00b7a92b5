"""How the duration of a job and its actor are shown."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from cli.job_view import _format_actor, _format_rate

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, " It took less than 1 s."),
        (0.99, " It took less than 1 s."),
        (2, " It took 2.0 s, 500 a second."),
        (4000, " It took 4,000.0 s, 0 a second."),
        (None, ""),
    ],
)
def test_a_short_job_shows_no_rate(seconds, text):
    """No rate is shown for a job that took no time."""
    finished = None if seconds is None else BEGAN + timedelta(seconds=seconds)
    job = SimpleNamespace(
        started_at=BEGAN, finished_at=finished, rate=1000 / seconds if seconds else None
    )
    assert _format_rate(job) == text


@pytest.mark.parametrize(
    ("actor", "via", "text"),
    [
        ("cli", "cli", "cli"),
        ("key:7", "http", "key:7, via http"),
        ("key:7", None, "key:7"),
        ("hook:3", "hook_form", "hook:3, via hook_form"),
    ],
)
def test_an_entry_point_is_shown_once(actor, via, text):
    """If the entry point is the actor, it is not repeated."""
    assert _format_actor(actor, via) == text
