"""Print what is missing for a release of the version in pyproject.toml: python -m tools.release.

One line for each missing item, and exit code 1 if there is any. The version is defined in pyproject.toml only; a
release has a heading of its own in CHANGELOG.md, with its date, and a tag v<version> on its commit.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""The headings of Keep a Changelog below a version."""


def main() -> int:
    """Print what is missing; 1 if anything is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    missing = [
        *missing_in(project["version"], (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
        *missing_in_git(project["version"]),
    ]
    for line in missing:
        print(f"missing: {line}")
    if not missing:
        print(f"{project['name']} {project['version']}: nothing is missing")
    return 1 if missing else 0


def missing_in(version: str, changelog: str) -> Iterator[str]:
    """Yield the parts that CHANGELOG.md lacks for a version."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        yield f"a version such as 1.2.3 or 1.2.3rc1 in pyproject.toml, which has {version}"
    sections = dict(re.findall(r"^## (\S+)([^\n]*\n.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL))
    released = sections.get(f"[{version}]")
    if released is None:
        yield f'"## [{version}] - {datetime.date.today()}" in CHANGELOG.md, below a new "## [Unreleased]"'
    elif not re.match(r" - \d{4}-\d\d-\d\d\n", released):
        yield f"the date after [{version}] in CHANGELOG.md, as in: ## [{version}] - {datetime.date.today()}"
    unreleased = sections.get("[Unreleased]")
    if unreleased is None:
        yield '"## [Unreleased]" at the top of CHANGELOG.md'
    elif released is not None and re.search(r"^- ", unreleased, re.MULTILINE):
        yield f"in [{version}] of CHANGELOG.md the lines that are under [Unreleased]"
    for heading in re.findall(r"^### (.*)$", changelog, re.MULTILINE):
        if heading not in KINDS:
            yield f"one of {', '.join(KINDS)} in place of the heading {heading!r} in CHANGELOG.md"


def missing_in_git(version: str) -> Iterator[str]:
    """Yield what the commit and its tag lack."""
    if git("status", "--porcelain"):
        yield "a commit with all changes: git status"
    tags = git("tag", "--points-at", "HEAD").split()
    if f"v{version}" not in tags:
        yield f"the tag v{version} on this commit: git tag v{version}"


def git(*arguments: str) -> str:
    """Return git's output."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main())
