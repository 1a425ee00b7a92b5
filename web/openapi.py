"""The OpenAPI document: what the routes declare, and what is true of all of them."""

import json
from functools import cache, partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from runtime.version import version
from web import problems
from web.problems import problem_responses

DESCRIPTION = """\
Bulk changes of consent on contact lists: opt contacts in or out, and see the result for each
address.

Each request needs an API key, which `sluice keys create` makes. It reads and changes only the data
of the key's account. Every non-2xx response is a problem document (RFC 9457); programs tell
problems apart by `type`. Each response has the `X-Correlation-Id` of the request, or a new one,
which the service's log lines have too.
"""

TAGS = {
    "jobs": "Bulk actions over selections of contacts: submit, follow and control them.",
    "results": "What a job did to each address.",
    "opt-outs": "Opt-outs of single recipients, applied before the response.",
    "addresses": "The status of an address, and its history.",
    "hooks": "Endpoints where senders and mailbox providers report opt-outs.",
    "unsubscribe": "Links in mail by which recipients opt out themselves.",
    "activity": "Who did what in the account.",
    "operation": "Health, readiness and scaling, for platforms.",
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
    """Let `app.openapi()` and /openapi.json return the whole document."""
    # FastAPI's documentation recommends replacing the method.
    app.openapi = cache(partial(_build_document, app))  # type: ignore[method-assign]

    @cache
    def serialize() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False).encode()

    async def openapi_json(_: Request) -> Response:
        return Response(serialize(), media_type="application/json")

    app.add_route("/openapi.json", openapi_json, include_in_schema=False)


def get_query_parameters(request: Request) -> frozenset[str]:
    """Return the names of the query parameters that the document has for the request's route."""
    operations = request.app.openapi()["paths"].get(request.scope["route"].path_format, {})
    parameters = operations.get(request.method.lower(), {}).get("parameters", ())
    return frozenset(each["name"] for each in parameters if each["in"] == "query")


def _build_document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="Sluice",
        version=version(),
        description=DESCRIPTION,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        routes=app.routes,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas[problems.SCHEMA_NAME] = problems.SCHEMA
    # FastAPI's own error document is never sent.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    used: set[str] = set()
    slugs: set[str] = set()
    for path in document["paths"].values():
        for operation in path.values():
            slugs |= _add_common_problems(operation)
            used.update(operation.get("tags", ()))
    document["components"]["examples"] = {
        slug: {"value": problems.describe_kind(problems.KINDS[slug], problems.EXAMPLE_DETAIL)}
        for slug in sorted(slugs)
    }
    document["tags"] = [tag for tag in document["tags"] if tag["name"] in used]
    return document


def _add_common_problems(operation: dict[str, Any]) -> set[str]:
    """Add the problems that any operation may end with; return the slugs of all its problems."""
    responses = operation["responses"]
    kinds = [*_COMMON_PROBLEMS]
    if operation.get("security"):
        kinds += _KEY_PROBLEMS
    if "requestBody" in operation:
        kinds += _BODY_PROBLEMS
    elif "422" in responses or "parameters" in operation:
        kinds.append(problems.INVALID)
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for response in responses.values():
        own = response.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", ())
        kinds += [problems.KINDS[slug] for slug in own if problems.KINDS[slug] not in kinds]
    for status, common in problem_responses(*kinds).items():
        response = responses.setdefault(str(status), common)
        response["description"] = common["description"]
        response["content"][problems.MEDIA_TYPE] = common["content"][problems.MEDIA_TYPE]
    for response in responses.values():
        response.setdefault("headers", {})["X-Correlation-Id"] = {"schema": {"type": "string"}}
    operation["responses"] = dict(sorted(responses.items()))
    return {kind.slug for kind in kinds}
