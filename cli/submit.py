"""`sluice submit`: one command for each action over contacts that exist, made from what it is.

A new action needs nothing here: its name, its summary, its parameters and whether it wants
evidence are read from the action itself.
"""

import inspect
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO, NamedTuple, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from actions.bulk_action import BulkAction
from actions.registry import all_actions
from cli import options
from cli.context import CommandContext, run
from cli.input_files import STDIN, open_input
from cli.jobs import print_job
from cli.progress import follow_job
from cli.rendering import print_hint, print_json, print_text
from producers.file_text import read_text
from producers.invalid_request import parse_request
from producers.job_view import JobView, read_job
from producers.submit import JobSubmission, submit
from producers.uploads import AddressUpload, ContactUpload, Upload
from schemas.actors import CLI
from schemas.errors import InvalidRequest, MostlyUnknownList, error_text
from schemas.json_input import DuplicateName, read_json
from schemas.requests import DEFAULT_FIELDS, JobRequest
from schemas.statuses import Status

submit_app = typer.Typer(
    help="Submit a bulk change of consent over contacts that are there.", no_args_is_help=True
)
plan_app = typer.Typer(
    help="Count what a bulk change would do, and change nothing until it is applied.",
    no_args_is_help=True,
)

_TAG = Annotated[str | None, typer.Option("--tag", help="Contacts with this tag.")]
_IMPORT = Annotated[
    int | None,
    typer.Option("--import", metavar="JOB_ID", help="Contacts that this import brought."),
]
_STATUS = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Contacts with an address of this status in one of the job's fields (--field);"
        f" repeatable. One of: {', '.join(Status)}.",
    ),
]
_CONTACTS = Annotated[
    str | None,
    typer.Option(
        "--contacts",
        metavar="FILE",
        help="These contact ids, one a line, or CSV with a column contact_id; - reads standard"
        " input.",
    ),
]
_ADDRESSES = Annotated[
    str | None,
    typer.Option(
        "--addresses",
        metavar="FILE",
        help="These email addresses, on whatever contact: one a line, or CSV with a column email;"
        " - reads standard input.",
    ),
]
_YES = Annotated[
    bool,
    typer.Option(
        "--yes", help="Do not ask when the account does not know most addresses of the list."
    ),
]
_ALL = Annotated[bool, typer.Option("--all", help="All contacts of the account.")]
_FIELD = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="FIELD",
        help=f"email1, email2 or email3; repeatable. (default: {', '.join(DEFAULT_FIELDS)})",
    ),
]
_EVIDENCE = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        metavar="FILE.json",
        help="The evidence of permission; without it the questions are shown."
        " - reads standard input.",
    ),
]

_COMMON_OPTIONS: tuple[tuple[str, Any, object], ...] = (
    ("tag", _TAG, None),
    ("import_job", _IMPORT, None),
    ("status", _STATUS, None),
    ("contacts", _CONTACTS, None),
    ("all_", _ALL, False),
    ("field", _FIELD, None),
    ("account", options.Account, "default"),
    ("requested_by", options.RequestedBy, None),
    ("key", options.Key, None),
    ("encoding", options.Encoding, "utf-8"),
    ("json_output", options.Json, False),
)
_PARAM_PREFIX = "param_"


def add_action_commands() -> None:
    """Give `sluice submit` and `sluice plan` a command for each action that there is."""
    for action in all_actions().values():
        if not action.creates_contacts:
            name = action.name.replace("_", "-")
            submit_app.command(name, help=action.summary)(_build_command(action, plan_first=False))
            plan_app.command(name, help=action.summary)(_build_command(action, plan_first=True))


def _build_command(action: BulkAction, *, plan_first: bool) -> Callable[..., None]:
    def command(**given: Any) -> None:
        (_plan if plan_first else _submit)(action, given)

    given = list(_COMMON_OPTIONS)
    if not plan_first:
        given.append(("wait", options.Wait, False))
    if action.accepts_addresses:
        given.append(("addresses", _ADDRESSES, None))
        if not plan_first:
            given.append(("yes", _YES, False))
    if action.needs_evidence:
        given.append(("evidence", _EVIDENCE, None))
    given += [
        (f"{_PARAM_PREFIX}{name}", *_param_option(name, field))
        for name, field in action.params.model_fields.items()
    ]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for name, annotation, default in given
        ]
    )
    command.__annotations__ = {name: annotation for name, annotation, _ in given}
    return command


def _param_option(name: str, field: FieldInfo) -> tuple[Any, object]:
    """Make the option for a parameter.

    Values other than switches and lists arrive as text, which the action's model validates.
    """
    taken = {"tag", "import", "status", "contacts", "all", "field", "account", "requested_by"}
    taken |= {"addresses", "encoding", "yes"}
    taken |= {"key", "wait", "json", "evidence"}
    flag = f"--{'param-' if name in taken else ''}{name.replace('_', '-')}"
    choices = _choices(field.annotation)
    text = field.description or ""
    if choices:
        text += f" (one of: {', '.join(choices)})"
    if field.default is not None and not field.is_required():
        text += f" (default: {field.default})"
    option = typer.Option(flag, help=text.strip(), show_default=False)
    kind: Any = str | None
    if field.annotation is bool:
        kind = bool | None
    elif get_origin(field.annotation) in {list, tuple, set}:
        kind = list[str] | None
    return Annotated[kind, option], None


def _choices(annotation: Any) -> list[str]:
    return [str(choice) for choice in get_args(annotation) if isinstance(choice, str)]


def _plan(action: BulkAction, given: dict[str, Any]) -> None:
    request = _build_request(action, given, plan_first=True)

    with _open_list(given) as listed:

        async def work(ctx: CommandContext) -> JobView:
            submitted = await _submit_request(ctx, request, listed, is_confirmed=True)
            _print_submitted(submitted, print_hint)
            await follow_job(ctx, submitted.job_id)
            return await read_job(ctx.pool, submitted.job_id)

        story = run(work, enqueues=True)
    print_job(story, ended=False, json_output=given["json_output"])


def _submit(action: BulkAction, given: dict[str, Any]) -> None:
    request = _build_request(action, given, plan_first=False)
    wait, json_output = given["wait"], given["json_output"]

    with _open_list(given) as listed:

        async def work(ctx: CommandContext) -> tuple[JobSubmission, JobView | None]:
            submitted = await _submit_request(
                ctx, request, listed, is_confirmed=given.get("yes", False)
            )
            if not wait:
                return submitted, None
            _print_submitted(submitted, print_hint)
            await follow_job(ctx, submitted.job_id)
            return submitted, await read_job(ctx.pool, submitted.job_id)

        submitted, story = run(work, enqueues=True)
    if story is not None:
        print_job(story, ended=True, json_output=json_output)
    elif json_output:
        unknown = {} if submitted.unknown is None else {"unknown": submitted.unknown}
        print_json({"job_id": submitted.job_id, "created": submitted.created, **unknown})
    else:
        _print_submitted(submitted, print_text)
        print_text(f"`sluice job {submitted.job_id} --watch` follows it.")


class _ListFile(NamedTuple):
    """A list that is given in a file, and how it is read, from the file's beginning."""

    file: BinaryIO
    make: Callable[[BinaryIO, str], Upload]
    encoding: str

    def upload(self) -> Upload:
        return self.make(self.file, self.encoding)


_UPLOAD_TYPES: dict[str, Callable[[BinaryIO, str], Upload]] = {
    "contacts": ContactUpload,
    "addresses": AddressUpload,
}


@contextmanager
def _open_list(given: dict[str, Any]) -> Iterator[_ListFile | None]:
    for name, make in _UPLOAD_TYPES.items():
        if given.get(name) is not None:
            with open_input(given[name], f"--{name}") as file:
                yield _ListFile(file, make, given["encoding"])
            return
    yield None


async def _submit_request(
    ctx: CommandContext, request: JobRequest, listed: _ListFile | None, *, is_confirmed: bool
) -> JobSubmission:
    """Submit the request with its list; ask first, unless `is_confirmed`, about one that is
    unknown.
    """
    if listed is None:
        return await submit(ctx.pool, ctx.settings, request, actor=CLI)
    try:
        return await submit(
            ctx.pool,
            ctx.settings,
            request,
            upload=listed.upload(),
            allow_mostly_unknown=is_confirmed,
            actor=CLI,
        )
    except MostlyUnknownList as error:
        _confirm_list(error, listed.file)
    # What is worked is what was asked about: the file is read again from its beginning.
    listed.file.seek(0)
    return await submit(ctx.pool, ctx.settings, request, upload=listed.upload(), actor=CLI)


def _confirm_list(error: MostlyUnknownList, file: BinaryIO) -> None:
    """Ask a person at the terminal about a list that is mostly unknown.

    Raises InvalidRequest without a yes, and if there is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty() and file.seekable()):
        raise InvalidRequest(f"{error} If they are, give --yes.") from None
    print_hint(
        f"The account does not know {error.unknown:,} of the {error.listed:,} addresses in the"
        " list."
    )
    if not typer.confirm("Is it the right list, and the right account?", err=True):
        raise InvalidRequest("The list was not confirmed. Nothing was stored.") from None


def _print_submitted(submitted: JobSubmission, tell: Callable[[str], None]) -> None:
    if not submitted.created:
        tell(f"Job {submitted.job_id} was submitted before with this key.")
        return
    tell(f"Job {submitted.job_id} is stored.")
    if submitted.unknown:
        tell(f"Addresses of the list that the account did not know: {submitted.unknown:,}.")
    if not submitted.enqueued:
        print_hint("Redis did not answer. A worker finds the job once it does.")


def _build_request(action: BulkAction, given: dict[str, Any], *, plan_first: bool) -> JobRequest:
    files = [f"--{name}" for name in ("contacts", "addresses", "evidence") if given.get(name)]
    if [given[name.removeprefix("--")] for name in files].count(STDIN) > 1:
        raise InvalidRequest(f"Only one of {', '.join(files)} can be read from standard input.")
    conditions = {
        "tag": given["tag"],
        "import_job": given["import_job"],
        # An option that is given no time is an empty list.
        "statuses": given["status"] or None,
    }
    selection: dict[str, Any] = {"all": given["all_"]}
    selection |= {name: value for name, value in conditions.items() if value is not None}
    evidence = given.get("evidence")
    if given["contacts"] is not None:
        selection["contacts"] = ()
    fields: dict[str, Any] = {"fields": given["field"] or DEFAULT_FIELDS}
    uploaded = "contacts" if given["contacts"] is not None else None
    if given.get("addresses") is not None:
        selection["addresses"] = ()
        uploaded = "addresses"
        fields = {"fields": given["field"]} if given["field"] else {}
    return parse_request(
        {
            "account": given["account"],
            "action": action.name,
            "selection": selection,
            "plan_first": plan_first,
            **fields,
            "params": _params(given),
            "evidence": read_evidence(evidence, given["encoding"])
            if evidence is not None
            else None,
            "requested_by": given["requested_by"] or get_user_name(),
            "idempotency_key": given["key"],
        },
        uploaded=uploaded,
    )


def _params(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(_PARAM_PREFIX): value
        for name, value in given.items()
        if name.startswith(_PARAM_PREFIX) and value is not None
    }


def read_evidence(source: str, encoding: str = "utf-8") -> dict[str, Any]:
    """Read the evidence from a JSON file, or standard input for `-`; raises InvalidRequest."""
    what = f"--evidence {source}"
    with open_input(source, "--evidence") as file:
        text = read_text(file, what, encoding=encoding)
    try:
        evidence = read_json(text)
    except DuplicateName as error:
        raise InvalidRequest(
            f"{what} has {error}. Nothing was stored. Give each name once."
        ) from None
    except ValueError as error:
        raise InvalidRequest(
            f"{what} is not JSON: {error_text(error)}. Nothing was stored."
        ) from None
    if not isinstance(evidence, dict):
        raise InvalidRequest(
            f"{what} holds no JSON object. Nothing was stored. Write the answers as"
            ' {"source": "web_form", "description": "…"}.'
        )
    return evidence


def get_user_name() -> str:
    """Return the name of the user who runs this process, from the system's accounts."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
