"""Ask whether an advisory is known for a package of the production lock file.

Fails where there is one. Where the advisories cannot be reached, or not in time, that is said, and
nothing fails: a machine without a network still has to be able to build.
"""
# ruff: noqa: INP001, T201 - a script that is run by itself, and says what it found

import json
import subprocess
import sys
from typing import Any

LOCK = "requirements.lock"
LIMIT_SECONDS = 60


def tell(found: dict[str, Any]) -> int:
    """Say what pip-audit found; gives 1 where an advisory is known, else 0."""
    packages = found.get("dependencies", [])
    audited = [each for each in packages if "skip_reason" not in each]
    affected = [each for each in audited if each["vulns"]]
    for each in affected:
        for advisory in each["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
            print(f"{each['name']} {each['version']}: {advisory['id']}, fixed by {fixed}")
    if affected:
        print("Advisories are known for these packages. Run `make lock`, or see SECURITY.md.")
        return 1
    if not audited:
        print(f"Not audited: the advisories for {LOCK} cannot be reached from here.")
    elif len(audited) < len(packages):
        print(f"No advisory is known for {len(audited)} of {len(packages)} packages of {LOCK}.")
    else:
        print(f"No advisory is known for the {len(packages)} packages of {LOCK}.")
    return 0


def ask() -> dict[str, Any]:
    """Return what pip-audit reports; empty if it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", LOCK, "--require-hashes"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        result = subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT_SECONDS,
            check=False,
        )
        found: dict[str, Any] = json.loads(result.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return {}
    return found


if __name__ == "__main__":
    sys.exit(tell(ask()))
