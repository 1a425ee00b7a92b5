"""The requests of producers during a chaos run and their times, drawn from the seed."""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

ACCOUNTS = ("amber", "birch")
PYTHON = "python"
"""The entry point for function calls; the other ones use HTTP."""

FIELD_CHOICES = (
    ("email1",),
    ("email1", "email2"),
    ("email1", "email2", "email3"),
    ("email2", "email3"),
    ("email3",),
)
SUPPRESSING = ("bounce", "lockdown", "invalid", "deactivated")
_SIZES = (1, 5, 50, 1_500, 4_000, 8_000)
_FIRST_CONTROLS = ("", "", "", "", "pause", "cancel")
_RECIPIENT_KINDS = ("manual", "manual", "list_unsubscribe", "spam")
_JOB_ENTRY_POINTS = (PYTHON, PYTHON, PYTHON, "json", "json", "file", "plan")
_CONTROL_ENTRY_POINTS = (PYTHON, "http")
_OPT_OUT_ENTRY_POINTS = (PYTHON, PYTHON, "api", "event", "form", "one_click")
_READS = ("results", "results", "follow", "jobs", "contacts", "foreign")


class PlannedJob(NamedTuple):
    """A bulk job. `selected_by` is contacts, tag, status or all; `size` is the number of listed
    contacts. `first_control` follows the acknowledgement: pause, cancel or nothing. It is submitted
    through `entry_point`, over HTTP perhaps a second time (`again`) or with a completion webhook.
    With `until_paused`, a job that ends before its pause is submitted again.
    """

    at: float
    account: str
    action: str
    fields: tuple[str, ...]
    selected_by: str
    size: int
    first_control: str
    entry_point: str
    again: bool
    expects_webhook: bool
    draw: float
    until_paused: bool = False


class PlannedControl(NamedTuple):
    """Pause an active job, and resume or cancel it after `pause` seconds; or cancel it."""

    at: float
    what: str
    pause: float
    then: str
    entry_point: str
    draw: float


class PlannedImport(NamedTuple):
    """A list of new contacts and of some that the account already has."""

    at: float
    account: str
    contacts: int
    permission: bool
    draw: float


class PlannedOptOut(NamedTuple):
    """A recipient's opt-out of one address through some entry point. Over HTTP the address may be
    `new` to the account, and the event may be sent a second time (`again`).
    """

    at: float
    account: str
    kind: str
    entry_point: str
    new: bool
    again: bool
    draw: float


class PlannedRead(NamedTuple):
    """A read request over HTTP."""

    at: float
    account: str
    what: str
    draw: float


class Traffic(NamedTuple):
    """All planned requests, each kind in order of time."""

    jobs: list[PlannedJob]
    controls: list[PlannedControl]
    imports: list[PlannedImport]
    opt_outs: list[PlannedOptOut]
    reads: list[PlannedRead]


def plan_traffic(seed: int, seconds: float) -> Traffic:
    """Return the traffic; the same seed gives the same traffic."""
    draw = Random(f"traffic {seed} {seconds}")
    jobs = [_job(draw, at, seconds) for at in _times(draw, seconds, every=0.3)]
    # Before the first fault: a job that a key submits and pauses, with a completion webhook.
    jobs[0] = jobs[0]._replace(
        action="opt_in",
        selected_by="all",
        first_control="pause",
        until_paused=True,
        entry_point="json",
        expects_webhook=True,
    )
    return Traffic(
        jobs=jobs,
        controls=[_control(draw, at) for at in _times(draw, seconds, every=4.0)],
        imports=[_import(draw, at) for at in _times(draw, seconds, every=12.0)],
        opt_outs=[_opt_out(draw, at) for at in _times(draw, seconds, every=0.3)],
        reads=[_read(draw, at) for at in _times(draw, seconds, every=0.7)],
    )


def _times(draw: Random, seconds: float, *, every: float) -> Iterator[float]:
    """Return random times with a mean distance of `every` seconds."""
    at = draw.uniform(0, every)
    while at < seconds:
        yield round(at, 3)
        at += draw.uniform(0.2, 1.8) * every


def _job(draw: Random, at: float, seconds: float) -> PlannedJob:
    by = draw.choice(("contacts", "contacts", "contacts", "tag", "status", "all"))
    action = draw.choice(("opt_in", "opt_in", "opt_out", "mark"))
    if action != "opt_in" and at < seconds / 2:
        # Early, large suppressions would leave no addresses for other jobs to change.
        by = "contacts"
    return PlannedJob(
        at,
        draw.choice(ACCOUNTS),
        action,
        draw.choice(FIELD_CHOICES),
        by,
        draw.choice(_SIZES),
        draw.choice(_FIRST_CONTROLS),
        draw.choice(_JOB_ENTRY_POINTS),
        draw.random() < 0.2,
        draw.random() < 0.2,
        draw.random(),
    )


def _control(draw: Random, at: float) -> PlannedControl:
    return PlannedControl(
        at,
        draw.choice(("pause", "pause", "cancel")),
        round(draw.uniform(0.2, 4.0), 2),
        draw.choice(("resume", "resume", "cancel")),
        draw.choice(_CONTROL_ENTRY_POINTS),
        draw.random(),
    )


def _import(draw: Random, at: float) -> PlannedImport:
    return PlannedImport(
        at, draw.choice(ACCOUNTS), draw.randint(100, 1500), draw.random() < 0.5, draw.random()
    )


def _opt_out(draw: Random, at: float) -> PlannedOptOut:
    return PlannedOptOut(
        at,
        draw.choice(ACCOUNTS),
        draw.choice(_RECIPIENT_KINDS),
        draw.choice(_OPT_OUT_ENTRY_POINTS),
        draw.random() < 0.2,
        draw.random() < 0.2,
        draw.random(),
    )


def _read(draw: Random, at: float) -> PlannedRead:
    return PlannedRead(at, draw.choice(ACCOUNTS), draw.choice(_READS), draw.random())
