"""Refuse a commit whose subject is too long, lacks a capital letter, or ends with a period.

Git runs it as a commit-msg hook (`make hooks`), with the file of the message as its argument.
"""
# ruff: noqa: INP001, T201 - a script that is run by itself, and says what it found

import re
import sys
from pathlib import Path

MAX_SUBJECT = 72
# What git writes itself, and removes when the commits are squashed.
_AUTOMATIC = re.compile(r"(?:fixup|squash|amend)! ")


def find_faults(message: str) -> list[str]:
    """Return what is wrong with the subject, a sentence for each; nothing if all is well."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    subject = next((line.strip() for line in lines if line.strip()), "")
    if not subject or _AUTOMATIC.match(subject):
        return []
    faults = []
    if len(subject) > MAX_SUBJECT:
        faults.append(f"It has {len(subject)} characters. At most {MAX_SUBJECT} are allowed.")
    if not subject[0].isupper():
        faults.append("It must begin with a capital letter.")
    if subject.endswith("."):
        faults.append("It must not end with a period.")
    return faults


def main(path: str) -> int:
    """Print the faults of the message in the file; return 1 if there are any."""
    faults = find_faults(Path(path).read_text(encoding="utf-8"))
    if faults:
        print("The subject of this commit was rejected. Nothing was committed.", *faults, sep="\n")
        print(f"Your message was kept. Correct it: git commit --edit --file={path}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
