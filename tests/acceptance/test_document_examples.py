"""What the documents of the way in over HTTP show works as it is written there."""

import asyncio
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.document_examples import (
    WEB_URL,
    check,
    find_difference,
    parse_blocks,
    run,
    select_examples,
)
from tests.kit.web_process import WebGroup, unused_port
from tests.kit.worker_group import ROOT

PAGES = ("http", "hooks", "python")


@pytest.mark.parametrize("name", PAGES)
async def test_every_example_runs_and_answers_as_shown(
    name: str, settings: Settings, start_group: StartGroup, tmp_path: Path
) -> None:
    """One after the other, beside a web process and workers: each succeeds, and what the page shows
    of its answer holds. No file with a secret is left behind.
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
    with WebGroup(settings, tmp_path / "web.log", **variables) as web:
        here = {WEB_URL: web.serving().url, "9000": str(unused_port())}
        outputs = await asyncio.to_thread(run, examples, folder, settings=settings, here=here)
    for example, output in zip(examples, outputs, strict=True):
        check(example, output)
    left = "".join(path.read_text() for path in folder.iterdir())
    assert '"secret"' not in left


@pytest.mark.parametrize(
    ("shown", "given"),
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
def test_what_is_shown_and_does_not_hold_is_found(shown, given) -> None:
    """An example that answers something else fails."""
    assert find_difference(shown, given) is not None


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": "..."}, {"a": None}),
        ([{"a": 1}, "..."], [{"a": 1, "b": 2}, 3]),
        ([1, "..."], [1]),
        ([], []),
    ],
)
def test_what_is_shown_may_be_shortened(shown, given) -> None:
    """By members of objects, and by the end of a list."""
    assert find_difference(shown, given) is None
