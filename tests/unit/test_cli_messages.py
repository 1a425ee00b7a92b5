"""What the command line says about a job without progress, and about an address."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.address import describe_result
from cli.progress import STALLED_AFTER_SECONDS, StallDetector
from cli.rendering import to_printable
from db.address_history import CurrentAddress
from db.job_progress import JobProgress
from producers.address_history import explain_status
from schemas.outcomes import Cause, JobState, Outcome, Reason
from schemas.statuses import MARKETABLE, OPTED_OUT, Status
from schemas.views import AddressResult

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def progress(done=0, *, state=JobState.RUNNING, is_held=False):
    """Return the progress of a job of a hundred chunks."""
    return JobProgress(state, NOW, is_held, done, 100)


def test_silence_is_explained_once_and_only_after_a_while():
    """A job that no worker takes is reported once, after the quiet time."""
    detector = StallDetector(7, 0.0)
    assert detector.advice(progress(), 0.0) is None
    assert detector.advice(progress(), STALLED_AFTER_SECONDS - 0.1) is None
    advice = detector.advice(progress(), STALLED_AFTER_SECONDS)
    assert advice is not None
    assert "sluice up" in advice
    assert detector.advice(progress(), 2 * STALLED_AFTER_SECONDS) is None


def test_progress_restarts_the_quiet_time():
    """While the job makes progress, nothing is printed."""
    detector = StallDetector(7, 0.0)
    for second in range(60):
        assert detector.advice(progress(done=second), float(second)) is None


def test_a_paused_job_is_reported_immediately():
    """A paused job is reported immediately, without waiting for the quiet time."""
    advice = StallDetector(7, 0.0).advice(progress(state=JobState.PAUSED), 0.0)
    assert advice is not None
    assert "sluice resume 7" in advice


def address(status, source=None):
    """Return an address with this status, propagated from `source` if there is one."""
    return CurrentAddress(
        id=1,
        address="a@x.example",
        status=status,
        previous_status=None,
        status_job_id=None,
        status_changed_at=NOW,
        contact_count=1,
        propagated_from=2 if source else None,
        propagated_from_address=source,
    )


@pytest.mark.parametrize("status", Status)
def test_every_status_is_explained(status):
    """The first sentence says whether broadcasts are sent; the others say what a bulk opt-in would
    do.
    """
    sentences = list(explain_status(address(status)))
    assert sentences[0].startswith(
        "It may get broadcasts" if status in MARKETABLE else "It gets no broadcasts"
    )
    assert any("A bulk opt-in" in sentence for sentence in sentences) == (status not in MARKETABLE)
    assert any("Only its owner" in sentence for sentence in sentences) == (status in OPTED_OUT)


def test_a_propagated_opt_out_names_its_source():
    """A propagated opt-out names the address that it was propagated from."""
    first = next(explain_status(address(Status.ADMIN, "b@x.example")))
    assert "b@x.example was opted out" in first


def result(**changes):
    """Return one result of an address's history, with changes."""
    facts = {
        "job_id": 1,
        "action": "opt_out",
        "requested_by": "Eve",
        "actor": "key:7",
        "via": "http",
        "evidence_source": None,
        "contact_id": 5,
        "field": "email2",
        "cause": Cause.DIRECT,
        "outcome": Outcome.APPLIED,
        "reason": None,
        "from_status": None,
        "to_status": Status.ADMIN,
        "decided_at": NOW,
        "source_address": None,
        "error": None,
    }
    return AddressResult(**{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "new → admin, in email2 of contact 5"),
        ({"from_status": Status.BOUNCE}, "bounce → admin, in email2 of contact 5"),
        (
            {"cause": Cause.PROPAGATED, "source_address": "b@x.example"},
            "new → admin, propagated from b@x.example, in email2 of contact 5",
        ),
        (
            {"outcome": Outcome.REJECTED, "to_status": None, "reason": Reason.COMPLAINED},
            "rejected (complained: the recipient complained of spam), in email2 of contact 5",
        ),
        (
            {
                "outcome": Outcome.REJECTED,
                "to_status": None,
                "reason": "reason_of_a_new_action",
                "error": "it broke",
            },
            "rejected (reason_of_a_new_action) (it broke), in email2 of contact 5",
        ),
    ],
)
def test_a_result_is_described_in_a_sentence(changes, says):
    """A result states the change or the reason against it, and where it came from."""
    assert describe_result(result(**changes)) == says


@given(st.text())
def test_control_characters_of_the_data_are_escaped(text):
    """Control characters and escape sequences are shown, not executed."""
    assert all(character.isprintable() or character == "\n" for character in to_printable(text))
