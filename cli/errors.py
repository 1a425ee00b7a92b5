"""How a command ends badly: a text for people, or JSON for programs, and the exit status."""

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


class SluiceGroup(TyperGroup):
    """The root of the commands: no error that Sluice raises on purpose shows a traceback."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command that the words of the command line name, and end the process."""
        with guard_output():
            return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raises Exit and UsageError only."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                (mistake, *_) = error.__cause__.errors(include_url=False)
                error.message = describe_error(mistake, quoting=False)
            raise
        except OutputError:
            # `guard_output` tells it, since the help is written outside of any command.
            raise
        except SluiceError as error:
            _print_failure(error, json_output=ctx.meta.get(_JSON_KEY, False))
            raise typer.Exit(error.exit_code) from None
        except PERMISSION_ERRORS as error:
            refused = describe_denied(error)
            _print_failure(refused, json_output=ctx.meta.get(_JSON_KEY, False))
            raise typer.Exit(refused.exit_code) from error
        except TRANSIENT_ERRORS as error:
            lost = SluiceError(
                f"The connection to Postgres was lost ({type(error).__name__}:"
                f" {error_text(error)}). What"
                " was sent last may be done or not. See `sluice jobs`, or give the same command"
                " with the same --key again, which is safe."
            )
            _print_failure(lost, json_output=ctx.meta.get(_JSON_KEY, False))
            raise typer.Exit(lost.exit_code) from error


def remember_json_output(ctx: typer.Context, value: bool) -> bool:  # noqa: FBT001 - typer calls it so
    """Remember that errors must be JSON too; the callback of each `--json`."""
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
                "Write the answers into a JSON object in a file, and give it by --evidence FILE."
            )


def _as_dict(error: SluiceError) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "message": expand_program_name(str(error)),
    }
    if isinstance(error, MissingEvidence):
        described["prompts"] = [prompt._asdict() for prompt in error.prompts]
    return described
