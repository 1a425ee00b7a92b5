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


def document() -> dict[str, Any]:
    """Return the body of /openapi.json, which needs no server."""
    settings = Settings(
        database_url="postgresql://nowhere/none",
        redis_url="redis://nowhere",
        signing_keys=SecretStr("a-key-for-tests-and-for-nothing-else"),
    )
    made: dict[str, Any] = create_app(settings).openapi()
    return made


def as_stored(made: dict[str, Any]) -> str:
    """Return the file's text. `python -m tests.unit.test_http_document` writes it."""
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Return the OpenAPI document as the code describes it now."""
    return document()


def operations(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each operation by its method and path."""
    for path, methods in made["paths"].items():
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


def test_the_stored_document_is_the_code_s(made) -> None:
    """The stored document equals the generated one, so each change of the contract is visible."""
    assert STORED.read_text() == as_stored(made)


def test_it_says_what_it_is_of(made) -> None:
    """Its version is the package's, and it names no server."""
    assert (made["info"]["title"], made["info"]["version"]) == ("Sluice", version("sluice"))
    assert made["info"]["description"]
    assert "servers" not in made


def test_every_operation_is_named_and_described(made) -> None:
    """Each operation has a unique id, a description and an explained tag."""
    names = [operation["operationId"] for _, operation in operations(made)]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z_]*", name)] == []
    for name, operation in operations(made):
        assert operation.get("summary"), name
        assert operation.get("description"), name
        assert set(operation["tags"]) <= set(TAGS), name
    assert {tag["name"] for tag in made["tags"]} == {
        tag for _, operation in operations(made) for tag in operation["tags"]
    }


def test_what_needs_a_key_says_so(made) -> None:
    """Every operation requires a key, except those for callers without one."""
    (scheme,) = made["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for name, operation in operations(made):
        needs_key = not WITHOUT_KEY & set(operation["tags"])
        assert bool(operation.get("security")) == needs_key, name
        assert ("401" in operation["responses"]) >= needs_key, name


def test_every_failure_is_documented_as_a_problem(made) -> None:
    """Every error response is a problem. Routes for browsers may return a page instead."""
    for name, operation in operations(made):
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
                example = made["components"]["examples"][slug]["value"]
                assert str(example["status"]) == status


def test_whatever_it_refers_to_is_there(made) -> None:
    """Every reference resolves, and every schema is used."""
    named = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "examples")
        for name in made["components"][kind]
    }
    assert set(references(made)) == named


if __name__ == "__main__":
    STORED.write_text(as_stored(document()))
