"""The examples in the documents of the HTTP API work as written."""

import asyncio
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup, StartWeb
from tests.kit.document_examples import (
    WEB_URL,
    check,
    find_difference,
    parse_blocks,
    run,
    select_examples,
)
from tests.kit.web_process import unused_port
from tests.kit.worker_group import ROOT

PAGES = ("http", "hooks", "python")


@pytest.mark.parametrize("name", PAGES)
async def test_every_example_runs_and_answers_as_shown(
    name: str, settings: Settings, start_group: StartGroup, start_web: StartWeb, tmp_path: Path
) -> None:
    """Each example of a page succeeds in turn, on a web process and workers, and answers what the
    page shows. No file with a secret is left behind.
    """
    examples = [*select_examples(parse_blocks(ROOT / "docs" / f"{name}.md"))]
    assert examples
    assert settings.signing_keys is not None
    variables = {
        "SIGNING_KEYS": settings.signing_keys.get_secret_value(),
        "ALLOW_PRIVATE_WEBHOOKS": "true",
    }
    start_group(processes=2, **variables)
    folder = tmp_path / "anywhere"
    folder.mkdir()
    with start_web(settings, tmp_path / "web.log", **variables) as web:
        here = {WEB_URL: web.serving().url, "9000": str(unused_port())}
        outputs = await asyncio.to_thread(run, examples, folder, settings=settings, here=here)
    for example, output in zip(examples, outputs, strict=True):
        check(example, output)
    files_text = "".join(path.read_text() for path in folder.iterdir())
    assert '"secret"' not in files_text


@pytest.mark.parametrize(
    ("shown", "actual"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": "..."}, {"b": 1}),
        ({"a": True}, {"a": 1}),
        ([1, 2], [1]),
        ([1], [1, 2]),
        ([{"a": 1}, "..."], [{"a": 2}]),
        ([1, "..."], []),
    ],
)
def test_a_wrong_example_is_reported(shown, actual) -> None:
    """An example whose answer differs from the page is reported."""
    assert find_difference(shown, actual) is not None


@pytest.mark.parametrize(
    ("shown", "actual"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": "..."}, {"a": None}),
        ([{"a": 1}, "..."], [{"a": 1, "b": 2}, 3]),
        ([1, "..."], [1]),
        ([], []),
    ],
)
def test_examples_may_be_shortened(shown, actual) -> None:
    """A page may leave out members of objects and the end of a list."""
    assert find_difference(shown, actual) is None
