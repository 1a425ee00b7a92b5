"""The documents say what the code says, and lead where they point."""

import re
from pathlib import Path

import pytest

from actions.registry import all_actions, describe_reason
from db.invariants import INVARIANTS
from runtime.events import EVENTS
from runtime.settings import Settings
from schemas.outcomes import JobState
from tests.chaos.fault_plan import Kind
from tests.kit.documents import (
    TRANSITIONS,
    VARIANTS,
    decisions,
    filled,
    params_of,
    places,
    tables,
    variants_of,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
SCHEMA = ROOT / "db" / "migrations" / "versions"

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE_PATH = re.compile(r"`([a-z_.]+/[a-z0-9_./-]+\.(?:py|sql|md|json|toml|lock))`")
"""A file of the project as pages name it; those with capitals, such as NAME, stand for others."""

_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def test_the_tables_match_the_code() -> None:
    """`docs/transitions.md` is as `python -m tests.kit.documents` writes it."""
    page = TRANSITIONS.read_text()
    assert page == filled(page)


def test_every_table_has_its_place() -> None:
    """No table was dropped from the page, and each stands there once."""
    assert sorted(places(TRANSITIONS.read_text())) == sorted(tables())


def test_every_action_can_be_asked() -> None:
    """An action that needs parameters is in `VARIANTS` of `tests/kit/documents.py`, and the reasons
    that it gives have a meaning.
    """
    assert set(VARIANTS) <= set(all_actions())
    for action in all_actions().values():
        for _, given in variants_of(action):
            assert params_of(action, given) is not None, action.name
        for decision in decisions(action):
            assert decision.reason is None or describe_reason(decision.reason), action.name


@pytest.mark.parametrize("name", sorted(all_actions()))
def test_the_edges_are_what_is_decided(name: str) -> None:
    """Each transition of a table is a decision that the action takes."""
    action = all_actions()[name]
    assert {transition.decision for transition in action.transitions} <= set(decisions(action))


@pytest.mark.parametrize("state", [*JobState, "pending", "done", "split"])
def test_every_state_is_explained(state: str) -> None:
    """Each state of a job and of a chunk stands on the page with what it means."""
    assert re.search(
        rf"^(- |\| )(`\w+`(, | and ))*`{state}`", TRANSITIONS.read_text(), re.MULTILINE
    )


def test_the_runbook_says_what_each_fault_looks_like() -> None:
    """Each kind of fault is in the table with its log events, and each event is declared."""
    runbook = (DOCS / "runbook.md").read_text()
    table = runbook.partition("At a glance")[2].partition("### ")[0]
    assert [kind for kind in Kind if f"`{kind}`" not in table] == []
    shown = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table))
    assert shown <= set(EVENTS)
    assert len(shown) > 5


def test_the_runbook_knows_every_event() -> None:
    """An operator who sees a line can look it up."""
    runbook = (DOCS / "runbook.md").read_text()
    assert [name for name in EVENTS if f"`{name}`" not in runbook] == []


def test_the_runbook_knows_every_check() -> None:
    """An operator who sees a violation can look up what it means."""
    runbook = (DOCS / "runbook.md").read_text()
    assert [each.name for each in INVARIANTS if f"| `{each.name}` |" not in runbook] == []


def test_the_storage_contract_is_complete() -> None:
    """`docs/storage.md` names every table, view and column that the migrations make."""
    contract = (DOCS / "storage.md").read_text()
    schema = "".join(path.read_text() for path in sorted(SCHEMA.glob("*.sql")))
    missing = []
    for table, body in re.findall(r"create table (\w+) \((.*?)\n\)", schema, re.DOTALL):
        row = re.search(rf"^\| `{table}` \|(.*)$", contract, re.MULTILINE)
        assert row, f"no row for the table {table}"
        columns = re.findall(
            r"^    (?!constraint|unique|primary|foreign)(\w+) \S", body, re.MULTILINE
        )
        missing += [f"{table}.{name}" for name in columns if f"`{name}`" not in row[1]]
    assert missing == []
    for view in re.findall(r"create view (\w+)", schema):
        assert f"`{view}`" in contract


def test_every_setting_has_its_sentence() -> None:
    """`.env.example`, to which the documents point, explains each setting."""
    example = (ROOT / ".env.example").read_text()
    for name in Settings.model_fields:
        assert re.search(rf"^# .+\n{name.upper()}=", example, re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Each link within the project names a file that exists, and a heading that it has."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        if anchor:
            assert anchor in _anchors(there.read_text()), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_pages_name_exist(page: Path) -> None:
    """A guide leads to files that are there."""
    made_by_reader = {"actions/mark_unengaged.py"}
    named = set(_CODE_PATH.findall(page.read_text(encoding="utf-8"))) - made_by_reader
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def _anchors(text: str) -> set[str]:
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_decisions_are_numbered_one_by_one() -> None:
    """Each decision has its number once, and its page begins with it."""
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for page in pages:
        assert page.read_text().startswith(f"# {page.name[:4]}: ")
