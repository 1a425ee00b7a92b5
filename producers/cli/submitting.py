"""`sluice submit`: one command for each action over contacts that exist, made from what it is.

A new action needs nothing here: its name, its summary, its parameters and whether it wants
evidence are read from the action itself.
"""

import inspect
import os
import pwd
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from actions.bulk_action import BulkAction
from actions.registry import all_actions
from producers.cli import options
from producers.cli.contact_list import STDIN, opened_bytes, opened_text, read_contact_ids
from producers.cli.context import Surroundings, run
from producers.cli.jobs import answer_with_job
from producers.cli.rendering import as_json, hint, say
from producers.cli.waiting import follow
from producers.job_story import JobStory, read_job
from producers.submit import Submitted, submit
from producers.uploads import AddressUpload
from producers.wrong_input import parse_request
from schemas.errors import WrongInput, said
from schemas.json_input import RepeatedName, read_json
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
        help="These contact ids, one a line or separated by commas; - reads standard input.",
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

_COMMON: tuple[tuple[str, Any, object], ...] = (
    ("tag", _TAG, None),
    ("import_job", _IMPORT, None),
    ("status", _STATUS, None),
    ("contacts", _CONTACTS, None),
    ("all_", _ALL, False),
    ("field", _FIELD, None),
    ("account", options.Account, "default"),
    ("requested_by", options.RequestedBy, None),
    ("key", options.Key, None),
    ("as_json_", options.Json, False),
)
_PARAM = "param_"


def add_actions() -> None:
    """Give `sluice submit` and `sluice plan` a command for each action that there is."""
    for action in all_actions().values():
        if not action.brings_contacts:
            name = action.name.replace("_", "-")
            submit_app.command(name, help=action.summary)(_command(action, plan_first=False))
            plan_app.command(name, help=action.summary)(_command(action, plan_first=True))


def _command(action: BulkAction, *, plan_first: bool) -> Callable[..., None]:
    def command(**given: Any) -> None:
        (_plan if plan_first else _submit)(action, given)

    given = list(_COMMON)
    if not plan_first:
        given.append(("wait", options.Wait, False))
    if action.takes_addresses:
        given.append(("addresses", _ADDRESSES, None))
    if action.needs_evidence:
        given.append(("evidence", _EVIDENCE, None))
    given += [
        (f"{_PARAM}{name}", *_param_option(name, field))
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
    """The option for a parameter. All but switches and lists come as text; its model checks it."""
    taken = {"tag", "import", "status", "contacts", "all", "field", "account", "requested_by"}
    taken |= {"addresses"}
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
    request = _request(action, given, plan_first=True)

    async def work(here: Surroundings) -> JobStory:
        submitted = await _hand_in(here, request, given)
        _tell(submitted, hint)
        await follow(here, submitted.job_id)
        return await read_job(here.pool, submitted.job_id)

    answer_with_job(run(work, rings=True), ended=False, in_json=given["as_json_"])


def _submit(action: BulkAction, given: dict[str, Any]) -> None:
    request = _request(action, given, plan_first=False)
    wait, in_json = given["wait"], given["as_json_"]

    async def work(here: Surroundings) -> tuple[Submitted, JobStory | None]:
        submitted = await _hand_in(here, request, given)
        if not wait:
            return submitted, None
        _tell(submitted, hint)
        await follow(here, submitted.job_id)
        return submitted, await read_job(here.pool, submitted.job_id)

    submitted, story = run(work, rings=True)
    if story is not None:
        answer_with_job(story, ended=True, in_json=in_json)
    elif in_json:
        as_json({"job": submitted.job_id, "created": submitted.created})
    else:
        _tell(submitted, say)
        say(f"`sluice job {submitted.job_id} --watch` follows it.")


async def _hand_in(here: Surroundings, request: JobRequest, given: dict[str, Any]) -> Submitted:
    if given.get("addresses") is None:
        return await submit(here.pool, here.settings, request)
    with opened_bytes(given["addresses"], "--addresses") as file:
        return await submit(here.pool, here.settings, request, upload=AddressUpload(file))


def _tell(submitted: Submitted, tell: Callable[[str], None]) -> None:
    if not submitted.created:
        tell(f"Job {submitted.job_id} was submitted before with this key.")
        return
    tell(f"Job {submitted.job_id} is stored.")
    if not submitted.announced:
        hint("Redis did not answer. A worker finds the job once it does.")


def _request(action: BulkAction, given: dict[str, Any], *, plan_first: bool) -> JobRequest:
    files = [f"--{name}" for name in ("contacts", "addresses", "evidence") if given.get(name)]
    if [given[name.removeprefix("--")] for name in files].count(STDIN) > 1:
        raise WrongInput(f"Only one of {', '.join(files)} can be read from standard input.")
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
        selection["contacts"] = read_contact_ids(given["contacts"])
    fields: dict[str, Any] = {"fields": given["field"] or DEFAULT_FIELDS}
    uploaded = None
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
            "evidence": read_evidence(evidence) if evidence is not None else None,
            "requested_by": given["requested_by"] or user_name(),
            "idempotency_key": given["key"],
        },
        uploaded=uploaded,
    )


def _params(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(_PARAM): value
        for name, value in given.items()
        if name.startswith(_PARAM) and value is not None
    }


def read_evidence(source: str) -> dict[str, Any]:
    """The evidence in a JSON file, or on standard input for `-`; raises WrongInput."""
    with opened_text(source, "--evidence") as file:
        text = file.read()
    try:
        evidence = read_json(text)
    except RepeatedName as error:
        raise WrongInput(
            f"--evidence {source} has {error}. Nothing was stored. Give each name once."
        ) from None
    except ValueError as error:
        raise WrongInput(
            f"--evidence {source} is not JSON: {said(error)}. Nothing was stored."
        ) from None
    if not isinstance(evidence, dict):
        raise WrongInput(
            f"--evidence {source} holds no JSON object. Nothing was stored. Write the answers as"
            ' {"source": "web_form", "description": "…"}.'
        )
    return evidence


def user_name() -> str:
    """The name of the user who runs this process, from the system's accounts."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
