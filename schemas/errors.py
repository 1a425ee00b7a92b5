"""Errors. The text of each says what happened, what was kept and what to do.

`exit_code` is the exit status of the command line: 1 for a failure, 2 for invalid input.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class SluiceError(Exception):
    """The base class of Sluice's own errors, whose texts are written for users."""

    exit_code: ClassVar[int] = 1


def error_text(error: object) -> str:
    """Return another program's error text for the middle of a sentence: without a full stop."""
    return str(error).strip().rstrip(".")


class FieldError(NamedTuple):
    """An error in a request: the path of the field, joined by dots, and what is wrong."""

    location: str
    message: str


class InvalidRequest(SluiceError):
    """The request is invalid, and nothing was stored.

    `field_errors` lists the errors in the text that are about one field.
    """

    exit_code = 2

    def __init__(self, text: str, field_errors: Sequence[FieldError] = ()) -> None:
        super().__init__(text)
        self.field_errors = tuple(field_errors)


class UnsafeRole(InvalidRequest):
    """A Postgres role has more rights than processes need, and nothing was granted."""


class NotFound(InvalidRequest):
    """A named job, account, tag, import or address does not exist in the account."""


class MostlyUnknownList(InvalidRequest):
    """Most addresses of a list are new to the account, so it may be another account's list."""

    def __init__(self, unknown: int, listed: int) -> None:
        self.unknown = unknown
        self.listed = listed
        super().__init__(
            f"{unknown:,} of the {listed:,} addresses in the list are new to the account."
            " Nothing was stored. Check that it is the right list and the right account."
        )


class Prompt(NamedTuple):
    """A question about a field of the evidence that is missing, too short or invalid."""

    field: str
    prompt: str


class MissingEvidence(InvalidRequest):
    """The evidence of permission is incomplete; `prompts` ask for the rest."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = tuple(prompts)
        lines = "".join(f"\n  {prompt.field}: {prompt.prompt}" for prompt in self.prompts)
        super().__init__(
            f"The evidence of permission is incomplete. Nothing was stored. Correct these:{lines}"
        )


class IdempotencyConflict(InvalidRequest):
    """The idempotency key was used before, for a request that differs from this one."""


class StateConflict(InvalidRequest):
    """The state of the job does not allow the command."""


class OutputError(SluiceError):
    """The output of a command could not be written."""


class SettingsError(SluiceError):
    """A setting is missing or invalid, so the process cannot start."""


class ReadingTimeout(SluiceError):
    """Reading a request took so long that other requests would have to wait."""


class DatabaseUnreachable(SluiceError):
    """Postgres does not answer."""


class QueueUnreachable(SluiceError):
    """Redis does not answer."""


class SchemaMismatch(SluiceError):
    """The database has the schema of another version."""


class DatabaseUnsuitable(SluiceError):
    """The database is not in UTF-8, or lacks a permission that Sluice needs."""


class MigrationLockTimeout(SluiceError):
    """Other sessions held the tables of a migration for too long."""


class ServerStartError(SluiceError):
    """An embedded server did not start."""


class ForbiddenTransition(SluiceError):
    """An action would make an opted-out address marketable."""


class StaleRead(SluiceError):
    """Control flow: a chunk needs more locks than it took; repeat it with all locks."""


class ConcurrentLink(SluiceError):
    """Control flow: contacts were created or linked while a chunk read them; repeat it."""
