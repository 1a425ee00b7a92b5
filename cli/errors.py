"""How a command ends badly: a text for people, or JSON for programs, and the exit status."""

import sys
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from cli.output_guard import answers
from cli.rendering import complain, hint, json_text
from db.errors import NOT_THE_WORKS_FAULT
from db.suitability import DENIED, denied
from runtime.program import as_called
from schemas.errors import EvidenceMissing, OutputFailed, SluiceError, said
from schemas.field_errors import sentence

_JSON = "sluice.json"


class ErrorsAsText(TyperGroup):
    """The root of the commands: no error that Sluice raises on purpose shows a traceback."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command that the words of the command line name, and end the process."""
        with answers():
            return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raises Exit and UsageError only."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                (mistake, *_) = error.__cause__.errors(include_url=False)
                error.message = sentence(mistake, quoting=False)
            raise
        except OutputFailed:
            # `answers` tells it, since the help is written outside of any command.
            raise
        except SluiceError as error:
            _show(error, in_json=ctx.meta.get(_JSON, False))
            raise typer.Exit(error.exit_code) from None
        except DENIED as error:
            refused = denied(error)
            _show(refused, in_json=ctx.meta.get(_JSON, False))
            raise typer.Exit(refused.exit_code) from error
        except NOT_THE_WORKS_FAULT as error:
            lost = SluiceError(
                f"The connection to Postgres was lost ({type(error).__name__}: {said(error)}). What"
                " was sent last may be done or not. See `sluice jobs`, or give the same command"
                " with the same --key again, which is safe."
            )
            _show(lost, in_json=ctx.meta.get(_JSON, False))
            raise typer.Exit(lost.exit_code) from error


def note_json(ctx: typer.Context, value: bool) -> bool:  # noqa: FBT001 - typer calls it so
    """Callback of each `--json`: errors are to be JSON too."""
    if value:
        ctx.meta[_JSON] = True
    return value


def _show(error: SluiceError, *, in_json: bool) -> None:
    if in_json:
        sys.stderr.write(json_text({"error": _as_dict(error)}) + "\n")
    else:
        complain(str(error))
        if isinstance(error, EvidenceMissing):
            hint("Write the answers into a JSON object in a file, and give it by --evidence FILE.")


def _as_dict(error: SluiceError) -> dict[str, Any]:
    described: dict[str, Any] = {"type": type(error).__name__, "message": as_called(str(error))}
    if isinstance(error, EvidenceMissing):
        described["prompts"] = [prompt._asdict() for prompt in error.prompts]
    return described
