"""`sluice new-action`: write a bulk action and its test, which pass as they are and teach.

The templates are valid code, so that ruff, mypy and every change of a name cover them too.
"""

import keyword
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from actions.registry import all_actions
from cli.rendering import print_command, print_text
from schemas.errors import InvalidRequest, SluiceError
from schemas.field_errors import to_sentence

_TEMPLATES = Path(__file__).parent / "templates"
_PLACEHOLDERS = ("example_action", "ExampleAction", "example-action", "Example action")
_TEMPLATE_MODULE = "cli.templates.action"
_PAGE = Path("docs/transitions.md")
_MARKER = "<!-- new actions -->\n"
"""The line of the page before which the section of a new action is put."""

_CHECKOUT = (Path("actions/bulk_action.py"), Path("tests/kit/documents.py"), _PAGE)
"""Files by which a checkout is recognized."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_NAME = 30
"""Longer names would make lines of templates and tables too long."""


def new_action(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The action's name, such as mark_unengaged.")
    ],
) -> None:
    """Write a new bulk action and its test, to start from.

    Run it in the folder of a checkout. The files pass all checks as they are, and their comments
    say what there is to decide.
    """
    checkout = Path.cwd()
    name = _parse_name(name)
    _require_checkout(checkout)
    targets = {
        Path(f"actions/{name}.py"): _render("action.py", name),
        Path(f"tests/unit/test_{name}.py"): _render("test_action.py", name),
        _PAGE: _page_with_section(checkout, name),
    }
    _require_new(checkout, name, targets)
    try:
        for path, text in targets.items():
            (checkout / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SluiceError(
            f"{error.filename} cannot be written: {error.strerror}. Files written before it were"
            " kept. Remove them and try again."
        ) from error
    _write_tables(checkout)
    _explain(name, targets)


def _parse_name(given: str) -> str:
    """Return the name with underscores; raise InvalidRequest for what cannot be one."""
    name = given.replace("-", "_")
    if _NAME.fullmatch(name) and len(name) <= _MAX_NAME and not keyword.iskeyword(name):
        return name
    raise InvalidRequest(
        f"{given!r} cannot be the name of an action. Nothing was written. Give at most {_MAX_NAME}"
        " lower-case letters, digits and underscores, such as mark_unengaged."
    )


def _require_checkout(folder: Path) -> None:
    for path in _CHECKOUT:
        if not (folder / path).is_file():
            raise InvalidRequest(
                f"This folder is not a checkout of Sluice: it has no {path}. Nothing was written."
                " Change to the folder of a checkout and try again."
            )


def _require_new(checkout: Path, name: str, targets: dict[Path, str]) -> None:
    paths = [*(path for path in targets if path != _PAGE), Path("actions") / name]
    taken = [f"{path} exists" for path in paths if (checkout / path).exists()]
    if name in all_actions():
        taken.append("an action has it")
    if taken:
        raise InvalidRequest(
            f"The name {name} is taken: {taken[0]}. Nothing was written. Choose another name."
        )


def _render(template: str, name: str) -> str:
    """Return a template with the action's name in place of the example's."""
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    words = name.split("_")
    spellings = (
        name,
        "".join(word.capitalize() for word in words),
        "-".join(words),
        " ".join(words).capitalize(),
    )
    text = text.replace(_TEMPLATE_MODULE, f"actions.{name}")
    for placeholder, spelling in zip(_PLACEHOLDERS, spellings, strict=True):
        text = text.replace(placeholder, spelling)
    return text


def _page_with_section(checkout: Path, name: str) -> str:
    page = (checkout / _PAGE).read_text(encoding="utf-8")
    if _MARKER not in page:
        raise InvalidRequest(
            f"{_PAGE} has no line `{_MARKER.strip()}`. Nothing was written. Put the line back"
            " after the section of the last action."
        )
    return page.replace(_MARKER, _render("section.md", name) + _MARKER, 1)


def _write_tables(checkout: Path) -> None:
    """Write the action's tables into the page, by the code that has just been written."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.documents"],
        cwd=checkout,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        *_, last = done.stderr.strip().split("\n")
        raise SluiceError(
            f"The tables of {_PAGE} could not be written. {to_sentence(last)} The action and its"
            " test were kept. Correct this, or run `make setup` if a package is missing. Then run"
            " `.venv/bin/python -m tests.kit.documents`."
        )


def _explain(name: str, targets: dict[Path, str]) -> None:
    action, test, page = targets
    print_text("Written:")
    print_text(f"  {action}  the action: answer its comments that begin with Decide")
    print_text(f"  {test}  its test, which passes now")
    print_text(f"  {page}  its section: say what the action is for")
    print_text("\nNext, run the test after each change, and write the tables of the page again:")
    print_command(f".venv/bin/pytest {test}")
    print_command(".venv/bin/python -m tests.kit.documents")
    print_text("Workers that start from now on know the action:")
    print_command(f"sluice submit {name.replace('_', '-')} --help")
    print_text("docs/extending.md says the rest.")
