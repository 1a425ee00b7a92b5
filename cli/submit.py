"""`sluice submit` and `sluice plan`: one command for each action over existing contacts.

A new action needs no code here: the commands are built from its name, summary, parameters and
whether it needs evidence.
"""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from actions.bulk_action import BulkAction
from actions.registry import all_actions
from cli import options
from cli.context import CommandContext
from cli.input_files import STDIN, get_user_name, open_list, read_evidence, submit_with_list
from cli.submission import submit_and_show
from producers.invalid_request import parse_request
from producers.submit import JobSubmission
from schemas.errors import InvalidRequest
from schemas.requests import DEFAULT_FIELDS, JobRequest
from schemas.statuses import Status

submit_app = typer.Typer(
    help="Submit a bulk change of consent for existing contacts.", no_args_is_help=True
)
plan_app = typer.Typer(
    help="Show what a bulk change would do. Nothing changes until you apply the plan.",
    no_args_is_help=True,
)

_Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Contacts with this tag.")]
_ImportJob = Annotated[
    int | None,
    typer.Option("--import", metavar="JOB_ID", help="Contacts that this import created."),
]
_Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Contacts with an address of this status in one of the job's fields (--field)."
        f" Repeatable. One of: {', '.join(Status)}.",
    ),
]
_Contacts = Annotated[
    str | None,
    typer.Option(
        "--contacts",
        metavar="FILE",
        help="The contacts with these ids: one per line, or CSV with a column contact_id."
        " - reads standard input.",
    ),
]
_Addresses = Annotated[
    str | None,
    typer.Option(
        "--addresses",
        metavar="FILE",
        help="These email addresses, whichever contacts hold them: one per line, or CSV with a"
        " column email. - reads standard input.",
    ),
]
_Yes = Annotated[
    bool,
    typer.Option(
        "--yes", help="Do not ask if the account does not know most addresses of the list."
    ),
]
_All = Annotated[bool, typer.Option("--all", help="All contacts of the account.")]
_Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="FIELD",
        help=f"email1, email2 or email3. Repeatable. (default: {', '.join(DEFAULT_FIELDS)})",
    ),
]
_Evidence = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        metavar="FILE.json",
        help="The evidence of permission. Without it, the command lists what is needed."
        " - reads standard input.",
    ),
]

_Option: TypeAlias = tuple[str, Any, object]
"""The name, the annotation and the default of an option."""

_COMMON: tuple[_Option, ...] = (
    ("tag", _Tag, None),
    ("import_job", _ImportJob, None),
    ("status", _Statuses, None),
    ("contacts", _Contacts, None),
    ("all_", _All, False),
    ("field", _Fields, None),
    ("account", options.Account, "default"),
    ("requested_by", options.RequestedBy, None),
    ("key", options.Key, None),
    ("encoding", options.Encoding, "utf-8"),
    ("json_output", options.Json, False),
)
_WAIT: _Option = ("wait", options.Wait, False)
_LIST: _Option = ("addresses", _Addresses, None)
_CONFIRM: _Option = ("yes", _Yes, False)
_PROOF: _Option = ("evidence", _Evidence, None)
_RESERVED_FLAGS = {
    flag
    for _, annotation, _ in (*_COMMON, _WAIT, _LIST, _CONFIRM, _PROOF)
    for flag in annotation.__metadata__[0].param_decls
}
_PARAM_PREFIX = "param_"


def add_action_commands() -> None:
    """Add a command for each registered action to `sluice submit` and `sluice plan`."""
    for action in all_actions().values():
        if not action.creates_contacts:
            name = action.name.replace("_", "-")
            submit_app.command(name, help=action.summary)(_build_command(action, plan_first=False))
            plan_app.command(name, help=action.summary)(_build_command(action, plan_first=True))


def _build_command(action: BulkAction, *, plan_first: bool) -> Callable[..., None]:
    def command(**given: Any) -> None:
        _submit(action, given, plan_first=plan_first)

    accepted = [
        *_COMMON,
        *[_WAIT] * (not plan_first),
        *[_LIST] * action.accepts_addresses,
        *[_CONFIRM] * (action.accepts_addresses and not plan_first),
        *[_PROOF] * action.needs_evidence,
        *(_param_option(name, field) for name, field in action.params.model_fields.items()),
    ]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for name, annotation, default in accepted
        ]
    )
    command.__annotations__ = {name: annotation for name, annotation, _ in accepted}
    return command


def _param_option(name: str, field: FieldInfo) -> _Option:
    """Return the option for a parameter of an action.

    All but switches and lists are read as text, which the model of the parameters checks.
    """
    flag = f"--{name.replace('_', '-')}"
    if flag in _RESERVED_FLAGS:
        flag = f"--param-{flag.removeprefix('--')}"
    text = field.description or ""
    if choices := [choice for choice in get_args(field.annotation) if isinstance(choice, str)]:
        text += f" (one of: {', '.join(choices)})"
    if field.default is not None and not field.is_required():
        text += f" (default: {field.default})"
    kind: Any = str | None
    if field.annotation is bool:
        kind = bool | None
    elif get_origin(field.annotation) in {list, tuple, set}:
        kind = list[str] | None
    metavar = None if kind == bool | None else name.rpartition("_")[2].upper()
    option = typer.Option(flag, help=text.strip(), show_default=False, metavar=metavar)
    return f"{_PARAM_PREFIX}{name}", Annotated[kind, option], None


def _submit(action: BulkAction, given: dict[str, Any], *, plan_first: bool) -> None:
    request = _build_request(action, given, plan_first=plan_first)
    # A plan changes nothing, so its list needs no confirmation.
    is_confirmed = plan_first or given.get("yes", False)
    with open_list(given) as listed:

        async def store(ctx: CommandContext) -> JobSubmission:
            return await submit_with_list(ctx, request, listed, is_confirmed=is_confirmed)

        submit_and_show(
            store,
            _describe,
            wait=plan_first or given["wait"],
            ended=not plan_first,
            json_output=given["json_output"],
        )


def _describe(submission: JobSubmission) -> list[str]:
    if not submission.created:
        return [f"Job {submission.job_id} was submitted before with this key."]
    told = [f"Job {submission.job_id} is stored."]
    if submission.unknown:
        told.append(f"The account did not know {submission.unknown:,} of the listed addresses.")
    return told


def _build_request(action: BulkAction, given: dict[str, Any], *, plan_first: bool) -> JobRequest:
    files = [name for name in ("contacts", "addresses", "evidence") if given.get(name)]
    if [given[name] for name in files].count(STDIN) > 1:
        flags = ", ".join(f"--{name}" for name in files)
        raise InvalidRequest(
            f"Only one of {flags} can be read from standard input. Nothing was stored."
        )
    listed = [name for name in ("contacts", "addresses") if given.get(name) is not None]
    conditions = {
        "tag": given["tag"],
        "import_job": given["import_job"],
        # An option that is not given is an empty list.
        "statuses": given["status"] or None,
        **dict.fromkeys(listed, ()),
    }
    selection = {name: value for name, value in conditions.items() if value is not None}
    evidence = given.get("evidence")
    return parse_request(
        {
            "account": given["account"],
            "action": action.name,
            "selection": {"all": given["all_"], **selection},
            "plan_first": plan_first,
            **({"fields": given["field"]} if given["field"] else {}),
            "params": {
                name.removeprefix(_PARAM_PREFIX): value
                for name, value in given.items()
                if name.startswith(_PARAM_PREFIX) and value is not None
            },
            "evidence": None if evidence is None else read_evidence(evidence, given["encoding"]),
            "requested_by": given["requested_by"] or get_user_name(),
            "idempotency_key": given["key"],
        },
        uploaded=listed[-1] if listed else None,
    )
