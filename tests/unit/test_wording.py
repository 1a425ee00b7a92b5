"""Texts that people read use the words of `docs/glossary.md`, and plain English.

`python -m tests.unit.test_wording` lists every violation.
"""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import typer.main

from cli import app

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
DECISIONS = ROOT / "docs" / "decisions"


class Word(NamedTuple):
    """A word to avoid: the pattern of its forms, and what to write."""

    pattern: str
    write: str


WORDS = {
    "ring": Word(r"rings?|ringing|rang|rung|(?:door)?bells?", "enqueue, message"),
    "token": Word(r"hops?", "token (of a lane), one step (of propagation)"),
    "spread": Word(r"spreads?|spreading", "propagate, propagation, propagated"),
    "beside": Word(r"beside|neighbou?r(?:s|ing)?", "sibling, with, next to"),
    "notice": Word(r"notices?(?!_text)", "completion webhook, delivery"),
    "at once": Word(r"at\s+once", "immediately, at the same time"),
    "somebody": Word(r"somebody|whoever|whosoever", "the actor by name, anyone who, another"),
    "refusal": Word(r"refusals?", "rejection, import rejection, error"),
    "way in": Word(r"ways?\s+in(?!\s+which)", "entry point"),
    "anew": Word(
        r"anew|mend(?:s|ed|ing)?|made\s+good|counts?\s+no\s+more|there\s+is\s+no\s+such"
        r"|for\s+ever|so\s+many(?!\s+\w+\s+that)",
        "again, fix, recover, no longer, does not exist, forever, that many",
    ),
    "recognized": Word(
        r"(?:un)?(?:recogni|normali|organi|initiali|seriali|finali|summari|capitali|prioriti|minimi"
        r"|authori|characteri|reali|utili|anonymi|synchroni)s(?:e[ds]?|ing|ations?)"
        r"|analys(?:ed?|ing)|(?:behavio|colo|hono|favo|labo|neighbo)ur\w*|(?:cent|met)res?"
        r"|licences?|defences?|catalogues?|dialogues?|modell(?:ed|ing)|labell(?:ed|ing)|grey"
        r"|judgement|artefacts?|whilst|amongst|programmes?|fulfil|practis(?:e[ds]?|ing)",
        "US spelling: recognized, color, center, license",
    ),
}
"""The ten worst, archaic words, counted as one, and British spelling."""

ALLOWED = {"docs/architecture.md": "Redis only rings the bell; Postgres decides"}
"""One sentence in a text that may stay, once."""


class Misuse(NamedTuple):
    """A word to avoid in a text; `around` is its context."""

    word: str
    around: str

    def __str__(self) -> str:
        return f"{self.word!r} in {self.around!r}: write {WORDS[self.word].write}"


def misuses(text: str) -> list[Misuse]:
    """Return each use of a word to avoid, also as a part of a name such as `lane_hop`."""
    return [
        Misuse(name, " ".join(text[max(found.start() - 30, 0) : found.end() + 30].split()))
        for name, word in WORDS.items()
        for found in re.finditer(rf"(?<![a-z])(?:{word.pattern})(?![a-z])", text, re.IGNORECASE)
    ]


def texts() -> dict[str, str]:
    """Return every text that people read, by its file or room; of the glossary,
    only the meanings.
    """
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    files = [*pages, ROOT / "docs" / "openapi.json", ROOT / ".env.example"]
    found = {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for path in sorted(files)
        if DECISIONS not in path.parents
    }
    found["docs/glossary.md"] = re.sub(r"\|[^|\n]*\|\n", "\n", found["docs/glossary.md"])
    for name, sentence in ALLOWED.items():
        found[name] = found[name].replace(sentence, "", 1)
    found["docs/decisions/"] = "\n".join(path.read_text() for path in sorted(DECISIONS.iterdir()))
    found["help of commands"] = "\n".join(_helps(typer.main.get_command(app)))
    for room in _rooms():
        code = (ROOT / room).rglob("*.py")
        found[f"sentences in {room}/"] = "\n".join(
            sentence for path in sorted(code) for sentence in sentences(path.read_text())
        )
    for path in sorted((ROOT / "db").rglob("*.sql")):
        name = path.relative_to(ROOT).as_posix()
        found[f"comments and texts of {name}"] = "\n".join(sql_texts(path.read_text()))
    return found


def sql_texts(sql: str) -> Iterator[str]:
    """Yield the comments and the literals of several words; the name of a statement is not a
    comment.
    """
    for comment, literal in re.findall(r"--(.*)|'((?:[^']|'')*)'", sql):
        if " " in literal or (comment and not comment.startswith(" name:")):
            yield comment or literal


def sentences(code: str) -> Iterator[str]:
    """Yield each literal of several words that is not a docstring; placeholders become `{}`."""
    nodes = [ast.parse(code)]
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        text = _literal(node)
        if text is None:
            nodes.extend(ast.iter_child_nodes(node))
        elif " " in text.strip():
            yield text


def _literal(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) or "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _helps(command: click.Command) -> Iterator[str]:
    yield command.help or ""
    yield from (getattr(option, "help", None) or "" for option in command.params)
    for each in getattr(command, "commands", {}).values():
        yield from _helps(each)


def _rooms() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(project["tool"]["importlinter"]["root_packages"])


TEXTS = texts()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_the_worst_words_are_gone(text: str) -> None:
    """No text that people read contains one of these words."""
    assert [str(misuse) for misuse in misuses(text)] == []


def test_words_are_found_in_names_and_across_lines() -> None:
    """Parts of a name and words across a line break are found; parts of longer words are not."""
    assert [misuse.word for misuse in misuses("at\nonce, lane_hop, Rung")] == [
        "ring",
        "token",
        "at once",
    ]
    assert misuses("string, hopes, besides, notice_text, amended, so many rows that it fails") == []


def test_only_sentences_are_read_from_code() -> None:
    """Docstrings, comments and single words are skipped, and a formatted sentence is one text."""
    code = '"""A docstring here."""\nx = "word"  # a comment here\nf(f"Job {x} is " f"done.")\n'
    assert list(sentences(code)) == ["Job {} is done."]


def test_comments_and_literals_are_read_from_sql() -> None:
    """Statement names and single words are skipped; an apostrophe in a comment
    starts no literal.
    """
    sql = "-- name: beside$\n-- The job's row.\nselect 'word', 'It''s done.' -- at last\n"
    assert list(sql_texts(sql)) == [" The job's row.", "It''s done.", " at last"]


def test_each_word_is_defined_once() -> None:
    """No two rows of the glossary define the same word."""
    words = Counter(re.findall(r"\*\*(.+?)\*\*", GLOSSARY.read_text().partition("## Data")[2]))
    assert [word for word, times in words.items() if times > 1] == []


if __name__ == "__main__":
    for name_, text_ in TEXTS.items():
        for misuse_ in misuses(text_):
            click.echo(f"{name_}: {misuse_}")
