"""How a command ends badly: a text for people, or JSON for programs, and the exit status."""

import json
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from db.failures import NOT_THE_WORKS_FAULT
from db.suitability import DENIED, denied
from producers.cli.rendering import err, hint, printable
from schemas.errors import EvidenceMissing, SluiceError

_JSON = "sluice.json"


class ErrorsAsText(TyperGroup):
    """The root of the commands: no error that Sluice raises on purpose shows a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            _leave_quietly()
            raise typer.Exit(0) from None
        except SluiceError as error:
            _show(error, in_json=ctx.meta.get(_JSON, False))
            raise typer.Exit(error.exit_code) from None
        except DENIED as error:
            refused = denied(error)
            _show(refused, in_json=ctx.meta.get(_JSON, False))
            raise typer.Exit(refused.exit_code) from error
        except NOT_THE_WORKS_FAULT as error:
            lost = SluiceError(
                f"The connection to Postgres was lost ({type(error).__name__}: {error}). What"
                " was sent last may be done or not: see `sluice jobs`, or give the same command"
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
        sys.stderr.write(json.dumps({"error": _as_dict(error)}, ensure_ascii=False) + "\n")
    else:
        err().print(printable(str(error)), soft_wrap=True, style="red")
        if isinstance(error, EvidenceMissing):
            hint("Write the answers into a JSON object in a file, and give it by --evidence FILE.")


def _as_dict(error: SluiceError) -> dict[str, Any]:
    described: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, EvidenceMissing):
        described["prompts"] = [prompt._asdict() for prompt in error.prompts]
    return described


def _leave_quietly() -> None:
    # What is still buffered would raise again when the interpreter flushes it at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
