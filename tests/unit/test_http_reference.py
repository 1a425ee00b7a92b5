"""`docs/http.md` and `docs/hooks.md` cover every call, scope, problem and limit."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from producers.hook_events import MAX_EVENTS
from producers.hook_opt_outs import APPLY_SECONDS
from producers.keys import Scope
from runtime.settings import Settings
from schemas.json_input import MAX_NAMES
from web import app, exports, problems
from web.auth import ScopedKey
from web.form_parser import MAX_FIELDS
from web.hook_auth import MAX_CLOCK_SKEW_SECONDS
from web.job_requests import MAX_IRREGULAR, MAX_LISTED
from web.job_uploads import MAX_JOB_PART_BYTES
from web.middleware.body_limit import BODY_TIMEOUT_SECONDS, MIN_BYTES_PER_SECOND
from web.prefer_wait import MAX_WAIT_SECONDS
from web.problems import ProblemKind
from web.request_body import MAX_JSON_DEPTH
from web.routes import addresses, contacts, jobs

DOCS = Path(__file__).parents[2] / "docs"
HTTP = (DOCS / "http.md").read_text()
HOOKS = (DOCS / "hooks.md").read_text()
_SECTION = re.compile(
    r"^### `(?P<method>[A-Z]+) (?P<path>\S+)`\n(?P<text>.*?)(?=^##)", re.MULTILINE | re.DOTALL
)
_ROW = re.compile(r"^\| `([a-z-]+)` \| (\d+) \|", re.MULTILINE)


def routes() -> Iterator[APIRoute]:
    """Return the routes of the OpenAPI document."""
    for router in app.ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                yield route


def name_of(route: APIRoute) -> tuple[str, str]:
    """Return the method and the path as the pages write it: JOB_ID is a plain ID."""
    (method,) = route.methods or ()
    path = re.sub(r"{(\w+)(:\w+)?}", lambda found: found[1].upper(), route.path)
    return method, re.sub(r"\w+_ID", "ID", path)


def sections() -> dict[tuple[str, str], str]:
    """Return the text of each call's section, by its method and path."""
    return {
        (found["method"], found["path"]): found["text"]
        for found in _SECTION.finditer(f"{HTTP}\n## \n{HOOKS}\n## ")
    }


def scope_of(route: APIRoute) -> Scope | None:
    """Return the scope that the route requires."""
    calls = [each.call for each in _dependants(route.dependant)]
    return next((call.scope for call in calls if isinstance(call, ScopedKey)), None)


def _dependants(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from _dependants(each)


def test_every_call_is_explained() -> None:
    """Each operation of the OpenAPI document has a section on one of the pages, and each section an
    operation.
    """
    assert sorted(sections()) == sorted(map(name_of, routes()))
    assert len(_SECTION.findall(f"{HTTP}\n## \n{HOOKS}\n## ")) == len(sections())


@pytest.mark.parametrize("route", [*routes()], ids=lambda route: route.name)
def test_each_section_has_its_scope_and_an_example(route: APIRoute) -> None:
    """The section begins with the required scope, if any, and shows a response."""
    section = sections()[name_of(route)]
    scope = re.match(r"\nScope `([a-z_]+:[a-z]+)`\.", section)
    assert (scope and scope[1]) == scope_of(route)
    assert "```sh" in section
    assert "curl" in section
    assert re.search(r"^```(json|text)$", section, re.MULTILINE)


def test_every_scope_has_its_row() -> None:
    """The table describes every scope, and each scope allows something."""
    assert {scope_of(route) for route in routes()} == {*Scope, None}
    rows = re.findall(r"^\| `(\w+:\w+)` \|", HTTP, re.MULTILINE)
    assert rows == [*Scope]


def test_every_problem_has_its_row() -> None:
    """The table lists every problem type with its status."""
    kinds = [each for each in vars(problems).values() if isinstance(each, ProblemKind)]
    assert len(kinds) > 10
    table = HTTP.partition("### Errors")[2].partition("### Limits")[0]
    rows = [(slug, int(status)) for slug, status in _ROW.findall(table)]
    assert sorted(rows) == sorted((kind.slug, int(kind.status)) for kind in kinds)


def limit_of(endpoint: Any, *, most: bool) -> int:
    """Return the maximum, or the default, of the query parameter `limit`."""
    if isinstance(endpoint, type) and issubclass(endpoint, BaseModel):
        field = endpoint.model_fields["limit"]
        return int(
            next(each.le for each in field.metadata if hasattr(each, "le"))
            if most
            else field.default
        )
    query = inspect.signature(endpoint).parameters["limit"]
    if not most:
        return int(query.default)
    (field,) = (each for each in get_args(query.annotation) if isinstance(each, FieldInfo))
    return int(next(each.le for each in field.metadata if hasattr(each, "le")))


@pytest.mark.parametrize(
    ("what", "most"),
    [
        ("a body", f"{Settings.model_fields['max_body_bytes'].default:,} bytes"),
        ("a body with a file", f"{Settings.model_fields['max_upload_bytes'].default:,} bytes"),
        ("the part `job` of a form", f"{MAX_JOB_PART_BYTES:,} bytes"),
        ("contacts or addresses within a body", f"{MAX_LISTED:,}"),
        ("events in a hook's message", f"{MAX_EVENTS:,}"),
        ("jobs in a page", f"{limit_of(jobs.list_jobs, most=True):,}"),
        ("jobs in a page", f"{limit_of(jobs.list_jobs, most=False):,} unless"),
        ("contacts in a page", f"{limit_of(contacts._ContactQuery, most=True):,}"),
        ("contacts in a page", f"{limit_of(contacts._ContactQuery, most=False):,} unless"),
        ("rows of results in a page", f"{limit_of(exports._ListQuery, most=True):,}"),
        ("rows of results in a page", f"{exports._DEFAULT_LIMIT:,} unless"),
        ("history of an address", f"{limit_of(addresses.get_address, most=True):,} entries"),
        ("history of an address", f"{limit_of(addresses.get_address, most=False):,} unless"),
        ("waiting by `Prefer`", f"{MAX_WAIT_SECONDS} seconds"),
        ("contacts or addresses within a body", f"`%` {MAX_IRREGULAR:,}"),
        ("events in a hook's message", f"after {APPLY_SECONDS:.0f} seconds"),
        ("fields of a hook's form", f"{MAX_FIELDS:,}"),
        ("names in an object of a request", f"{MAX_NAMES:,}"),
        ("levels of lists and objects", str(MAX_JSON_DEPTH)),
        ("how slowly a body may come, and an answer be read", f"{MIN_BYTES_PER_SECOND:,}"),
        (
            "time for the first line and the headers",
            f"{Settings.model_fields['header_timeout_seconds'].default:.0f} seconds",
        ),
    ],
)
def test_every_limit_agrees_with_the_code(what: str, most: str) -> None:
    """The limits in the table equal those in the code."""
    (row,) = re.findall(rf"^\| {re.escape(what)} \| (.*) \|$", HTTP, re.MULTILINE)
    assert re.search(rf"(^| ){re.escape(most)}", row)


def test_seconds_and_rates_agree_with_the_code() -> None:
    """The seconds and rates in the text equal those in the code."""
    per_second = Settings.model_fields["requests_per_second"].default
    assert f"`REQUESTS_PER_SECOND` ({per_second:,.0f})" in HTTP
    assert f"no part of the body came for {BODY_TIMEOUT_SECONDS:.0f} seconds" in HTTP
    for page in (HTTP, HOOKS):
        assert f"more than {MAX_CLOCK_SKEW_SECONDS} seconds from now" in page
