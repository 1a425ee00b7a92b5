"""The OpenAPI document is complete, and `docs/openapi.json` is its current text."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from runtime.settings import Settings
from web.app import create_app
from web.openapi import TAGS
from web.problems import MEDIA_TYPE, SCHEMA_NAME

STORED = Path(__file__).parents[2] / "docs" / "openapi.json"
WITHOUT_KEY = {"operation", "hooks", "unsubscribe"}
"""Tags of routes for platforms, senders and recipients."""


def generate_document() -> dict[str, Any]:
    """Return the body of /openapi.json, which needs no server."""
    settings = Settings(
        database_url="postgresql://nowhere/none",
        redis_url="redis://nowhere",
        signing_keys=SecretStr("a-key-for-tests-and-for-nothing-else"),
    )
    document: dict[str, Any] = create_app(settings).openapi()
    return document


def as_stored(document: dict[str, Any]) -> str:
    """Return the file's text. `python -m tests.unit.test_http_document` writes it."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Return the OpenAPI document as the code describes it now."""
    return generate_document()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each operation by its method and path."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def references(part: Any) -> Iterator[str]:
    """Return every reference in the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def test_the_stored_document_equals_the_generated_one(document) -> None:
    """The stored document equals the generated one, so each change of the contract is visible."""
    assert STORED.read_text() == as_stored(document)


def test_the_document_names_its_version_and_no_server(document) -> None:
    """Its version is the package's, and it names no server."""
    assert (document["info"]["title"], document["info"]["version"]) == ("Sluice", version("sluice"))
    assert document["info"]["description"]
    assert "servers" not in document


def test_every_operation_is_named_and_described(document) -> None:
    """Each operation has a unique id, a description and an explained tag."""
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z_]*", name)] == []
    for name, operation in operations(document):
        assert operation.get("summary"), name
        assert operation.get("description"), name
        assert set(operation["tags"]) <= set(TAGS), name
    assert {tag["name"] for tag in document["tags"]} == {
        tag for _, operation in operations(document) for tag in operation["tags"]
    }


def test_operations_require_a_key(document) -> None:
    """Every operation requires a key, except those for callers without one."""
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for name, operation in operations(document):
        needs_key = not WITHOUT_KEY & set(operation["tags"])
        assert bool(operation.get("security")) == needs_key, name
        assert ("401" in operation["responses"]) >= needs_key, name


def test_every_error_response_is_documented_as_a_problem(document) -> None:
    """Every error response is a problem. Routes for browsers may return a page instead."""
    for name, operation in operations(document):
        failures = {
            status: answer
            for status, answer in operation["responses"].items()
            if int(status) >= 400
        }
        assert {"500", "503"} <= failures.keys(), name
        for status, answer in failures.items():
            content = dict(answer["content"])
            if (name, status) == ("get /v1/unsubscribe/{token}", "404"):
                assert "text/html" in content
                continue
            problem = content.pop(MEDIA_TYPE)
            if name.endswith("/v1/unsubscribe/{token}"):
                content.pop("text/html", None)
            assert content == {}, (name, status)
            assert problem["schema"] == {"$ref": f"#/components/schemas/{SCHEMA_NAME}"}
            for slug, reference in problem["examples"].items():
                assert reference == {"$ref": f"#/components/examples/{slug}"}
                example = document["components"]["examples"][slug]["value"]
                assert str(example["status"]) == status


def test_references_resolve_and_schemas_are_used(document) -> None:
    """Every reference resolves, and every schema is used."""
    named = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "examples")
        for name in document["components"][kind]
    }
    assert set(references(document)) == named


if __name__ == "__main__":
    STORED.write_text(as_stored(generate_document()))
