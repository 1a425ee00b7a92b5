"""The OpenAPI document: what the routes say of themselves, and what is true of all of them."""

import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from web import problems
from web.problems import problem_responses

DESCRIPTION = """\
Bulk changes of consent on contact lists: opt contacts in or out, and learn what became of each
address.

Each request brings an API key that `sluice keys create` made. All that it sees and changes belongs
to the key's account. Every answer that is not 2xx is a problem document (RFC 9457); programs
tell problems apart by `type`. Each answer has `X-Correlation-Id`, by which the service's log lines
can be found: that of the request, if it has one.
"""

TAGS = {
    "jobs": "Bulk actions over selections of contacts: submitting, following and controlling them.",
    "results": "What became of each address of a job.",
    "opt-outs": "Opt-outs of single recipients, applied before they are answered.",
    "addresses": "What an address is now, and how it came to that.",
    "hooks": "Where senders and mailbox providers post what recipients did.",
    "unsubscribe": "Links in mail by which recipients opt out themselves.",
    "activity": "Who did what in the account.",
    "operation": "What platforms ask: whether the process lives, can serve, and is enough.",
}
"""Every tag that a router may have."""

_COMMON_PROBLEMS = (problems.MALFORMED, problems.INTERNAL, problems.UNAVAILABLE)
_KEY_PROBLEMS = (problems.UNAUTHENTICATED, problems.SCOPE_MISSING, problems.TOO_MANY_REQUESTS)
_BODY_PROBLEMS = (
    problems.REQUEST_TIMEOUT,
    problems.BODY_TOO_LARGE,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.INVALID,
)


def install_openapi(app: FastAPI) -> None:
    """Let `app.openapi()`, and with it /openapi.json, give the whole document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build_document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # as FastAPI's own manual has it
    written: list[bytes] = []

    async def openapi_json(_: Request) -> Response:
        # Once: it takes longer to write than most requests take.
        if not written:
            written.append(json.dumps(document(), ensure_ascii=False).encode())
        return Response(written[0], media_type="application/json")

    app.add_route("/openapi.json", openapi_json, include_in_schema=False)


def get_query_parameters(request: Request) -> frozenset[str] | None:
    """Return the query parameters that the request's route documents; None if it needs no key."""
    # The document has the names of a path's parts without what they are converted by.
    documented = re.sub(r"\{(\w+):\w+\}", r"{\1}", request.scope["route"].path)
    path = request.app.openapi()["paths"].get(documented, {})
    operation = path.get(request.method.lower(), {})
    if not operation.get("security"):
        return None
    parameters = operation.get("parameters", ())
    return frozenset(each["name"] for each in parameters if each["in"] == "query")


def _build_document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title="Sluice",
        version=_read_version(),
        description=DESCRIPTION,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        routes=app.routes,
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas[problems.SCHEMA_NAME] = problems.SCHEMA
    # FastAPI's own shape of a mistake is never sent.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    used: set[str] = set()
    slugs: set[str] = set()
    for path in made["paths"].values():
        for operation in path.values():
            slugs |= _add_common_problems(operation)
            used.update(operation.get("tags", ()))
    examples = problems.build_examples()
    made["components"]["examples"] = {slug: examples[slug] for slug in sorted(slugs)}
    made["tags"] = [tag for tag in made["tags"] if tag["name"] in used]
    return made


def _read_version() -> str:
    """Return the package's version; on a dyno, Sluice is not installed and has none."""
    try:
        return version("sluice")
    except PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        found: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        return found


def _add_common_problems(operation: dict[str, Any]) -> set[str]:
    """Add the problems that the operation may end with whatever it does; gives the names of all
    that it may end with.
    """
    kinds = [*_COMMON_PROBLEMS]
    if operation.get("security"):
        kinds += _KEY_PROBLEMS
    if "requestBody" in operation:
        kinds += _BODY_PROBLEMS
    elif "422" in operation["responses"] or "parameters" in operation:
        kinds.append(problems.INVALID)
    responses = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for status, general in problem_responses(*kinds).items():
        own = responses.setdefault(str(status), general)
        media = own.setdefault("content", {}).setdefault(problems.MEDIA_TYPE, {})
        of_all = general["content"][problems.MEDIA_TYPE]
        media.setdefault("schema", of_all["schema"])
        media["examples"] = of_all["examples"] | media.get("examples", {})
    slugs: set[str] = set()
    for response in responses.values():
        headers = response.setdefault("headers", {})
        headers["X-Correlation-Id"] = {"schema": {"type": "string"}}
        slugs.update(response.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", ()))
    operation["responses"] = dict(sorted(responses.items()))
    return slugs
