"""Errors, written for the person who meets them: what happened, what was kept, what to do.

`exit_code` is the command line's exit status: 1 for a failure, 2 for wrong input.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class SluiceError(Exception):
    """Root of every error that Sluice raises on purpose; its text is meant to be shown."""

    exit_code: ClassVar[int] = 1


def error_text(error: object) -> str:
    """Return another program's error text for the middle of a sentence: without a full stop."""
    return str(error).strip().rstrip(".")


class FieldError(NamedTuple):
    """What is wrong with a request: in which part of it, its names joined by dots, and why."""

    location: str
    message: str


class InvalidRequest(SluiceError):
    """The request cannot be carried out as it was given; nothing was stored.

    `field_errors` are those that have a place in the request, as its text tells them.
    """

    exit_code = 2

    def __init__(self, text: str, field_errors: Sequence[FieldError] = ()) -> None:
        super().__init__(text)
        self.field_errors = tuple(field_errors)


class UnsafeRole(InvalidRequest):
    """A role of Postgres that cannot be limited to what processes need; nothing was granted."""


class NotFound(InvalidRequest):
    """A named job, account, tag, import or address does not exist in the account."""


class MostlyUnknownList(InvalidRequest):
    """The account does not know most addresses of a list, so it may be another account's."""

    def __init__(self, unknown: int, listed: int) -> None:
        self.unknown = unknown
        self.listed = listed
        super().__init__(
            f"The account does not know {unknown:,} of the {listed:,} addresses in the list."
            " Nothing was stored. Check that it is the right list and the right account."
        )


class Prompt(NamedTuple):
    """A follow-up question: which field of the evidence is missing or too thin, and what to say."""

    field: str
    prompt: str


class MissingEvidence(InvalidRequest):
    """An opt-in came without enough evidence of permission; `prompts` asks for the rest."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = tuple(prompts)
        lines = "".join(f"\n  {prompt.field}: {prompt.prompt}" for prompt in self.prompts)
        super().__init__(
            "The opt-in was refused and nothing was stored: its evidence of permission is"
            f" incomplete.{lines}"
        )


class IdempotencyConflict(InvalidRequest):
    """The idempotency key was used before, for a request that differs from this one."""


class StateConflict(InvalidRequest):
    """The job is in a state that does not allow what was asked."""


class OutputError(SluiceError):
    """A command's answer could not be written."""


class SettingsError(SluiceError):
    """A setting is missing or wrong; the process cannot start."""


class ReadingTimeout(SluiceError):
    """What was sent takes longer to read than others can wait for."""


class DatabaseUnreachable(SluiceError):
    """Postgres does not answer."""


class QueueUnreachable(SluiceError):
    """Redis does not answer."""


class SchemaMismatch(SluiceError):
    """The database was migrated by a newer version, or not yet by this one."""


class DatabaseUnsuitable(SluiceError):
    """The database keeps text in another encoding than UTF-8, or does not allow what is needed."""


class MigrationLockTimeout(SluiceError):
    """Tables that a migration changes were used by others for too long."""


class ServerStartError(SluiceError):
    """An embedded server did not start."""


class ForbiddenTransition(SluiceError):
    """An action decided what no action may: to make an opted-out address marketable."""


class StaleRead(SluiceError):
    """A chunk needs a lock that it did not take at first; do it again, with all locks."""


class ConcurrentLink(SluiceError):
    """Contacts were made or linked while a chunk read them; do it again."""
