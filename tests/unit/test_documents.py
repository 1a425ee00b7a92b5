"""The documents agree with the code, and their links work."""

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
"""A project file as pages name it; names with capitals, such as NAME, are placeholders."""

_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def test_the_tables_match_the_code() -> None:
    """`docs/transitions.md` equals the output of `python -m tests.kit.documents`."""
    page = TRANSITIONS.read_text()
    assert page == filled(page)


def test_every_table_has_its_place() -> None:
    """Every table is on the page exactly once."""
    assert sorted(places(TRANSITIONS.read_text())) == sorted(tables())


def test_every_action_has_its_parameters_in_variants() -> None:
    """Each action with parameters is in `VARIANTS` of `tests/kit/documents.py`, and its reasons
    have meanings.
    """
    assert set(VARIANTS) <= set(all_actions())
    for action in all_actions().values():
        for _, params in variants_of(action):
            assert params_of(action, params) is not None, action.name
        for decision in decisions(action):
            assert decision.reason is None or describe_reason(decision.reason), action.name


@pytest.mark.parametrize("name", sorted(all_actions()))
def test_transitions_are_the_decisions_of_the_action(name: str) -> None:
    """Each transition of a table is a decision that the action can return."""
    action = all_actions()[name]
    assert {transition.decision for transition in action.transitions} <= set(decisions(action))


@pytest.mark.parametrize("state", [*JobState, "pending", "done", "split"])
def test_every_state_is_explained(state: str) -> None:
    """The page explains each state of a job and of a chunk."""
    assert re.search(
        rf"^(- |\| )(`\w+`(, | and ))*`{state}`", TRANSITIONS.read_text(), re.MULTILINE
    )


def test_the_runbook_lists_the_log_events_of_each_fault() -> None:
    """The table lists each kind of fault with its log events, and each event is declared."""
    runbook = (DOCS / "runbook.md").read_text()
    table = runbook.partition("At a glance")[2].partition("### ")[0]
    assert [kind for kind in Kind if f"`{kind}`" not in table] == []
    shown = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table))
    assert shown <= set(EVENTS)
    assert len(shown) > 5


def test_the_runbook_explains_every_event() -> None:
    """The runbook explains every log event."""
    runbook = (DOCS / "runbook.md").read_text()
    assert [name for name in EVENTS if f"`{name}`" not in runbook] == []


def test_the_runbook_explains_every_check() -> None:
    """The runbook explains every check, so that an operator can look up a violation."""
    runbook = (DOCS / "runbook.md").read_text()
    assert [each.name for each in INVARIANTS if f"| `{each.name}` |" not in runbook] == []


def test_the_storage_contract_is_complete() -> None:
    """`docs/storage.md` names every table, view and column that the migrations create."""
    contract = (DOCS / "storage.md").read_text()
    schema = "".join(path.read_text() for path in sorted(SCHEMA.glob("*.sql")))
    missing = []
    for table, body in re.findall(r"create table (\w+) \((.*?)\n\)", schema, re.DOTALL):
        row = re.search(rf"^\| `{table}` \|(.*)$", contract, re.MULTILINE)
        assert row, f"no row for the table {table}"
        columns = re.findall(
            r"^    (?!constraint|unique|primary|foreign)(\w+) \S", body, re.MULTILINE
        )
        for changes in re.findall(rf"alter table {table}\b(.*?);", schema, re.DOTALL):
            columns += re.findall(r"\badd column (?:if not exists )?(\w+)", changes)
        missing += [f"{table}.{name}" for name in columns if f"`{name}`" not in row[1]]
    assert missing == []
    for view in re.findall(r"create view (\w+)", schema):
        assert f"`{view}`" in contract


def test_every_setting_is_explained() -> None:
    """`.env.example`, to which the documents refer, explains each setting."""
    example = (ROOT / ".env.example").read_text()
    for name in Settings.model_fields:
        assert re.search(rf"^# .+\n{name.upper()}=", example, re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Each link within the project leads to an existing file and heading."""
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
    """Files named on the pages exist."""
    made_by_reader = {"actions/mark_unengaged.py"}
    named = set(_CODE_PATH.findall(page.read_text(encoding="utf-8"))) - made_by_reader
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def _anchors(text: str) -> set[str]:
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_decisions_are_numbered_one_by_one() -> None:
    """Each decision number is used once, and its page begins with it."""
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for page in pages:
        assert page.read_text().startswith(f"# {page.name[:4]}: ")
