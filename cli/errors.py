"""How a command fails: a text for people or JSON for programs, and the exit status."""

import sys
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from cli.output_guard import guard_output
from cli.rendering import json_text, print_error, print_hint
from db.errors import TRANSIENT_ERRORS
from db.suitability import PERMISSION_ERRORS, describe_denied
from runtime.program import expand_program_name
from schemas.errors import MissingEvidence, OutputError, SluiceError, error_text
from schemas.field_errors import describe_error

_JSON_KEY = "sluice.json"
_EXPECTED_ERRORS: tuple[type[BaseException], ...] = (
    SluiceError,
    *PERMISSION_ERRORS,
    *TRANSIENT_ERRORS,
)


class SluiceGroup(TyperGroup):
    """The root of the commands, which shows no traceback of an error that Sluice expects."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command that the arguments name, and end the process."""
        with guard_output():
            return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raises Exit and UsageError only."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                (first, *_) = error.__cause__.errors(include_url=False)
                error.message = describe_error(first, quoting=False)
            raise
        except OutputError:
            # `guard_output` prints it, since the help is written outside of any command.
            raise
        except _EXPECTED_ERRORS as error:
            failure = _to_failure(error)
            _print_failure(failure, json_output=ctx.meta.get(_JSON_KEY, False))
            raise typer.Exit(failure.exit_code) from error


def _to_failure(error: BaseException) -> SluiceError:
    if isinstance(error, SluiceError):
        return error
    if isinstance(error, PERMISSION_ERRORS):
        return describe_denied(error)
    return SluiceError(
        f"The connection to Postgres was lost ({type(error).__name__}: {error_text(error)})."
        " The last statement may have been done or not. `sluice jobs` shows it, and the same"
        " command with the same --key is safe to repeat."
    )


def remember_json_output(ctx: typer.Context, value: bool) -> bool:  # noqa: FBT001 - typer calls it like this
    """Remember that errors are to be JSON too (a callback of each `--json`)."""
    if value:
        ctx.meta[_JSON_KEY] = True
    return value


def _print_failure(error: SluiceError, *, json_output: bool) -> None:
    if json_output:
        sys.stderr.write(json_text({"error": _as_dict(error)}) + "\n")
    else:
        print_error(str(error))
        if isinstance(error, MissingEvidence):
            print_hint(
                "Write the answers into a JSON object in a file, and name it with --evidence FILE."
            )


def _as_dict(error: SluiceError) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "message": expand_program_name(str(error)),
    }
    if isinstance(error, MissingEvidence):
        described["prompts"] = [prompt._asdict() for prompt in error.prompts]
    return described
